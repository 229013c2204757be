"""The same loss and gradient as TRL 1.16 wherever both have the setting; the goldens come from `trl_losses.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rl.loss import policy_loss
from rl.objective_config import ObjectiveConfig
from rl.objectives import resolve_objective
from tests.peers.trl_losses import CASES

GOLDENS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "trl_losses.json").read_text(encoding="utf-8"))


def test_the_goldens_are_those_of_the_script() -> None:
    assert GOLDENS["provenance"]["trl"] == "1.16.0"
    assert {name: (case["trainer"], case["settings"], case["ours"]) for name, case in GOLDENS["cases"].items()} == CASES


@pytest.mark.parametrize("name", CASES)
def test_equals_trl(name: str) -> None:
    case = GOLDENS["cases"][name]
    tensors = {key: torch.tensor(values, dtype=torch.float64) for key, values in GOLDENS["inputs"].items()}
    logprobs = tensors["logprobs"].requires_grad_()
    entropy = tensors["entropy"].requires_grad_()
    objective = resolve_objective(
        ObjectiveConfig.model_validate_json(json.dumps(case["ours"])),
        reward_kind="metric",
        shrunk=False,
        max_tokens=GOLDENS["max_tokens"],
    )
    loss, _ = policy_loss(
        logprobs,
        tensors["old"],
        tensors["advantages"][:, None].expand_as(logprobs),
        torch.full(logprobs.shape, -1),
        tensors["mask"],
        objective=objective,
        rollout_logprobs_BT=tensors["rollout"],
        ref_logprobs_BT=tensors["ref"],
        entropy_BT=entropy,
    )
    loss.backward()
    assert logprobs.grad is not None
    tolerance = 1e-6 if objective.surrogate == "sapo" else 1e-12  # TRL rounds the temperature 1.05 to float32
    expected = torch.tensor(case["grad_logprobs"], dtype=torch.float64)
    torch.testing.assert_close(logprobs.grad, expected, rtol=tolerance, atol=1e-14)
    if name != "rloo_on_policy":  # TRL's value is that of a ratio, ours of a logprob; the gradient is what they share
        assert loss.item() == pytest.approx(case["loss"], abs=tolerance)
    if objective.entropy_coef > 0:
        assert entropy.grad is not None
        torch.testing.assert_close(entropy.grad, torch.tensor(case["grad_entropy"], dtype=torch.float64))
