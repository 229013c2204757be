"""verl's own loading of a custom reward function and its naive reward manager. In an environment with verl:

PYTHONPATH=. python tests/peers/verl_peer.py
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf  # pyright: ignore[reportMissingImports]
from verl import DataProto  # pyright: ignore[reportMissingImports]
from verl.experimental.reward_loop.reward_manager.naive import (  # pyright: ignore[reportMissingImports]
    NaiveRewardManager,
)
from verl.trainer.ppo.reward import get_custom_reward_fn  # pyright: ignore[reportMissingImports]

from rewards.adapters import verl as adapter
from rollouts.tiny import build_tiny_tokenizer
from tests.rewards.serving import served, serving

ANSWERS = ("a", "dddd", "ccc", "bb")


def rollout(tokenizer: Any, answer: str, index: int) -> DataProto:
    ids = torch.tensor([tokenizer(answer, add_special_tokens=False)["input_ids"]])
    columns: dict[str, Any] = {
        "data_source": "set",
        "reward_model": {"ground_truth": "truth"},
        "extra_info": {"index": index, "question": f"question {index}"},
    }
    return DataProto.from_dict(
        tensors={"responses": ids, "attention_mask": torch.ones_like(ids)},
        non_tensors={name: np.array([value], dtype=object) for name, value in columns.items()},
    )


async def main() -> None:
    with serving(served()) as (url, _):
        custom = {"path": adapter.__file__, "name": "compute_score", "reward_kwargs": {"url": url, "group_size": 4}}
        config = OmegaConf.create({"reward": {"custom_reward_function": custom}})
        tokenizer = build_tiny_tokenizer()
        manager = NaiveRewardManager(config, tokenizer, get_custom_reward_fn(config))
        rollouts = [rollout(tokenizer, answer, index) for answer in ANSWERS for index in range(2)]
        results = await asyncio.gather(*(manager.run_single(one) for one in rollouts))
    rewards = [result["reward_score"] for result in results]
    assert rewards[::2] == rewards[1::2] == [0.0, 1.0, 2 / 3, 1 / 3], rewards
    assert all(result["reward_extra_info"]["podium_unscored"] == 0.0 for result in results)
    print(f"verl: rewards {rewards}")


if __name__ == "__main__":
    asyncio.run(main())
