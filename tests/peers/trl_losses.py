"""TRL's own policy losses and gradients on seeded tensors, as goldens for `tests/peers/test_trl_losses.py`.

TRL needs an environment of its own (`pip install trl==1.16.0 torch==2.13.0`); then, from the repository:

    python tests/peers/trl_losses.py --python /path/to/that/environment/bin/python

writes `tests/peers/data/trl_losses.json`. What runs is TRL's `_compute_loss` itself, on an object that has the settings
of a trainer and answers with the tensors instead of a model's. It is called in evaluation mode, where TRL divides by
nothing that comes from gradient accumulation. What TRL divides by otherwise:

    grpo, sapo, gspo    tokens of each answer, then the number of answers in the (micro-)batch
    dapo, cispo         `num_items_in_batch`, the loss tokens of the whole batch
    dr_grpo             answers x max_completion_length
    gmpo, rloo          answers
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

OUT = Path(__file__).parent / "data" / "trl_losses.json"
SEED = 20261127
LENGTHS = (7, 3, 5, 1)
MAX_TOKENS = 9

# name: (which trainer, its settings, our `rl.objective`)
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "grpo": ("grpo", {"loss_type": "grpo"}, {"kind": "grpo"}),
    "grpo_kl": ("grpo", {"loss_type": "grpo", "beta": 0.3}, {"kind": "grpo", "kl_coef": 0.3}),
    "dr_grpo": ("grpo", {"loss_type": "dr_grpo"}, {"kind": "dr_grpo"}),
    "dapo": ("grpo", {"loss_type": "dapo", "epsilon_high": 0.28}, {"kind": "dapo"}),
    "dapo_kl_entropy": (
        "grpo",
        {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.1, "entropy_coef": 0.2},
        {"kind": "dapo", "kl_coef": 0.1, "entropy_coef": 0.2},
    ),
    "dual_clip": (
        "grpo",
        {"loss_type": "dapo", "epsilon_high": 0.28, "delta": 1.5},
        {"kind": "dapo", "dual_clip": 1.5},
    ),
    "gspo": (
        "grpo",
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
        {"kind": "gspo"},
    ),
    "gspo_wide": (
        "grpo",
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 0.3, "epsilon_high": 0.4},
        {"kind": "gspo", "clip_low": 0.3, "clip_high": 0.4},
    ),
    "cispo": ("grpo", {"loss_type": "cispo", "epsilon_high": 5.0}, {"kind": "cispo"}),
    "cispo_cut": ("grpo", {"loss_type": "cispo", "epsilon_high": 1.2}, {"kind": "cispo", "clip_high": 0.2}),
    "sapo": ("grpo", {"loss_type": "sapo"}, {"kind": "sapo"}),
    "token_truncate": (
        "grpo",
        {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.1, "vllm_importance_sampling_correction": True},
        {"kind": "dapo", "kl_coef": 0.1, "off_policy": {"weight": "token", "high": 1.1}},
    ),
    "gmpo": ("gmpo", {"epsilon_low": 0.4, "epsilon_high": 0.4}, {"kind": "gmpo"}),
    "gmpo_kl": (
        "gmpo",
        {"epsilon_low": 0.1, "epsilon_high": 0.1, "beta": 0.2},
        {"kind": "gmpo", "clip_low": 0.1, "clip_high": 0.1, "kl_coef": 0.2},
    ),
    "rloo_on_policy": ("rloo", {}, {"kind": "rloo", "constant_tokens": 1}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of the environment that has TRL")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(dump()))
        return
    call = [args.python, __file__, "--python", args.python, "--inside"]
    text = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
    OUT.write_text(json.dumps(json.loads(text), indent=1) + "\n", encoding="utf-8")
    print(f"{OUT}: {len(CASES)} cases")


def dump() -> dict[str, Any]:
    import torch
    import trl  # pyright: ignore[reportMissingImports]

    inputs = make_inputs()
    return {
        "provenance": {
            "trl": trl.__version__,
            "torch": torch.__version__,
            "python": sys.version.split()[0],
            "command": "python tests/peers/trl_losses.py --python PATH",
            "seed": SEED,
        },
        "max_tokens": MAX_TOKENS,
        "inputs": inputs,
        "cases": {name: run(inputs, *case) for name, case in CASES.items()},
    }


def make_inputs() -> dict[str, Any]:
    """4 answers of up to 7 tokens, in float64: ratios on both sides of every clip, advantages of both signs."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    shape = (len(LENGTHS), max(LENGTHS))

    def normal(scale: float) -> Any:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    old = -normal(1.0).abs() - 0.1
    tensors = {
        "logprobs": old + normal(0.4),
        "old": old,
        "ref": old + normal(0.3),
        "rollout": old + normal(0.15),
        "entropy": normal(1.0).abs(),
        "advantages": torch.tensor([1.3, -0.9, 0.4, -0.8], dtype=torch.float64),
        "mask": (torch.arange(shape[1])[None] < torch.tensor(LENGTHS)[:, None]).double(),
    }
    return {name: tensor.tolist() for name, tensor in tensors.items()}


def run(inputs: dict[str, Any], trainer: str, settings: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Loss and gradients of one case."""
    import torch

    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in inputs.items()}
    logprobs = tensors["logprobs"].requires_grad_()
    entropy = tensors["entropy"].requires_grad_()
    mask = tensors["mask"]
    ids = torch.zeros_like(mask, dtype=torch.long)
    batch = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": torch.ones_like(ids[:, :1]),
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": tensors["advantages"],
        "old_per_token_logps": tensors["old"],
        "old_logps": (logprobs * mask).sum(1).detach(),
        "ref_per_token_logps": tensors["ref"],
        "num_items_in_batch": mask.sum(),
        "importance_sampling_ratio": (tensors["old"] - tensors["rollout"]).exp().clamp(max=1.1),
    }
    fake = make_trainer(settings, logprobs, entropy)
    loss = compute_loss(trainer)(fake, fake.model, batch)
    loss.backward()
    assert logprobs.grad is not None
    return {
        "trainer": trainer,
        "settings": settings,
        "ours": ours,
        "loss": loss.item(),
        "grad_logprobs": (logprobs.grad * mask).tolist(),
        "grad_entropy": None if entropy.grad is None else (entropy.grad * mask).tolist(),
    }


def compute_loss(trainer: str) -> Any:
    from trl import GRPOTrainer, RLOOTrainer  # pyright: ignore[reportMissingImports]
    from trl.experimental.gmpo import GMPOTrainer  # pyright: ignore[reportMissingImports]

    return {"grpo": GRPOTrainer, "rloo": RLOOTrainer, "gmpo": GMPOTrainer}[trainer]._compute_loss


def make_trainer(settings: dict[str, Any], logprobs: Any, entropy: Any) -> Any:
    """What `_compute_loss` reads of a trainer, with TRL's own defaults where a case says nothing."""
    from trl import GRPOConfig  # pyright: ignore[reportMissingImports]

    defaults = {name: field.default for name, field in GRPOConfig.__dataclass_fields__.items()}
    values = {
        "loss_type": "dapo",
        "beta": 0.0,
        "epsilon_low": defaults["epsilon"],
        "epsilon_high": defaults["epsilon"],
        "importance_sampling_level": defaults["importance_sampling_level"],
        "entropy_coef": 0.0,
        "delta": None,
        "vllm_importance_sampling_correction": False,
    } | settings
    return SimpleNamespace(
        **{name: value for name, value in values.items() if name != "delta"},
        args=SimpleNamespace(
            delta=values["delta"],
            use_bias_correction_kl=False,
            sapo_temperature_pos=defaults["sapo_temperature_pos"],
            sapo_temperature_neg=defaults["sapo_temperature_neg"],
            steps_per_generation=1,
        ),
        model=SimpleNamespace(training=False),
        accelerator=SimpleNamespace(
            num_processes=1,
            sync_gradients=True,
            gather=lambda x: x,
            gather_for_metrics=lambda x: x,
            reduce=lambda x, reduction: x,
        ),
        use_vllm=values["vllm_importance_sampling_correction"],
        max_completion_length=MAX_TOKENS,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_adaptive_entropy=False,
        _entropy_bonus_enabled=values["entropy_coef"] > 0,
        current_gradient_accumulation_steps=1,
        _metrics={"eval": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (logprobs, entropy, None),
    )


if __name__ == "__main__":
    main()
