"""What DeepSpeed is told, and what is refused before it is."""

from __future__ import annotations

from typing import Any

import pytest

from rewards.errors import UserError
from rl.config import LearnerConfig, RLConfig
from rl.zero import MIN_BUFFER_NUMEL, check_learner, deepspeed_config, learner_faults, offload_fault


def learner(**keys: Any) -> LearnerConfig:
    return LearnerConfig.model_validate({"zero_stage": 3, **keys})


def keys_at_fault(**keys: Any) -> list[str]:
    return [".".join(key) for key, _ in learner_faults(learner(**keys))]


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"zero_stage": 0, "dtype": "bfloat16"}, "zero_stage"),
        ({"lora": {"dropout": 0.1}}, "lora.dropout"),
        ({"zero_stage": 2, "offload": {"params": "cpu"}}, "offload.params"),
        ({"zero_stage": 0, "dtype": "float32", "offload": {"optimizer": "cpu"}}, "offload.optimizer"),
        ({"zero_stage": 2, "offload": {"optimizer": "nvme", "nvme_path": "/d"}}, "offload.optimizer"),
        ({"offload": {"optimizer": "nvme"}}, "offload.nvme_path"),
        ({"offload": {"params": "nvme"}}, "offload.nvme_path"),
        ({"offload": {"optimizer": "cpu", "nvme_path": "/d"}}, "offload.nvme_path"),
    ],
)
def test_what_cannot_stand_together_is_named_by_its_key(keys: dict[str, Any], fault: str) -> None:
    assert keys_at_fault(**keys) == [fault]


@pytest.mark.parametrize(
    "keys",
    [
        {"zero_stage": 0, "dtype": "float32", "lora": {}},
        {"zero_stage": 1, "offload": {"optimizer": "cpu"}, "lora": {}},
        {"zero_stage": 2, "offload": {"optimizer": "cpu"}},
        {"offload": {"optimizer": "nvme", "params": "nvme", "nvme_path": "/d"}},
        {"offload": {"params": "cpu"}, "lora": {}},
    ],
)
def test_the_neighbours_are_accepted(keys: dict[str, Any]) -> None:
    assert keys_at_fault(**keys) == []


def test_on_a_cpu_there_is_no_gpu_to_relieve() -> None:
    assert offload_fault(learner()) is None
    fault = offload_fault(learner(offload={"params": "cpu"}))
    assert fault is not None
    assert fault[0] == ("offload", "params")
    config = RLConfig(num_steps=1, learner=learner(offload={"optimizer": "cpu"}))
    check_learner(config, "cuda")
    with pytest.raises(UserError, match=r"learner\.offload\.optimizer: offload makes room on a GPU"):
        check_learner(config, "cpu")


def test_offload_reaches_deepspeed() -> None:
    offload = {"optimizer": "cpu", "params": "nvme", "nvme_path": "/d"}
    config = RLConfig(num_steps=1, learner=learner(offload=offload))
    zero = deepspeed_config(config, "cuda", largest_numel=2 * MIN_BUFFER_NUMEL)["zero_optimization"]
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert zero["offload_param"] == {
        "device": "nvme",
        "pin_memory": True,
        "nvme_path": "/d",
        "buffer_size": 2 * MIN_BUFFER_NUMEL,
    }
    none = deepspeed_config(RLConfig(num_steps=1, learner=learner()), "cuda")["zero_optimization"]
    assert not {"offload_optimizer", "offload_param"} & none.keys()
