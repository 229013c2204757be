"""verl's custom reward function: verl asks for one rollout at a time, from several processes; groups are whole here.

reward.custom_reward_function: {path: ..., name: compute_score, reward_kwargs: {url: ..., group_size: 8}}
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from rewards.adapters.client import RewardClient, RewardServiceError

_CLIENTS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[Any, ...], RewardClient]] = WeakKeyDictionary()


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    url: str,
    group_size: int,
    prompt_key: str = "question",
    group_key: str = "index",
    fields: Mapping[str, str] | None = None,
    token_env: str | None = None,
    timeout_s: float = 600.0,
    **_: Any,
) -> dict[str, float]:
    """The rollout's reward, once its group is whole.

    verl cannot leave a rollout out: one that is unscored gets the mean of its group, which makes its advantage zero,
    and `podium_unscored` 1 among the metrics; with nobody scored in the group, 0 for all of it.

    Args:
        group_size: `rollout.n`.
        prompt_key: key of `extra_info` with the prompt's text. group_key: with what tells prompts apart.
        fields: what the rewards read, by name, from `extra_info` keys; the name `ground_truth` is verl's own.
        token_env, timeout_s: as for `RewardClient`.

    Raises:
        RewardServiceError: no reward, and why.
    """
    info = extra_info or {}
    for key in (prompt_key, group_key, *(fields or {}).values()):
        if key not in info:
            raise RewardServiceError(f"extra_info has no {key!r}; it has: {', '.join(map(str, info)) or 'nothing'}")
    texts = {name: str(info[key]) for name, key in (fields or {}).items()}
    reply = await _client(url, token_env, timeout_s).gather(
        str(info[prompt_key]),
        [solution_str],
        group_size=group_size,
        group=f"{data_source}/{info[group_key]}",
        fields={"ground_truth": str(ground_truth), **texts},
    )
    (reward,) = reply.rewards
    if reward is not None:
        return {"score": reward, "podium_unscored": 0.0}
    return {"score": reply.group_mean if reply.group_mean is not None else 0.0, "podium_unscored": 1.0}


def _client(url: str, token_env: str | None, timeout_s: float) -> RewardClient:
    """One per event loop: connections are shared by the rollouts of a process."""
    clients = _CLIENTS.setdefault(asyncio.get_running_loop(), {})
    key = (url, token_env, timeout_s)
    if key not in clients:
        clients[key] = RewardClient(url, token_env=token_env, timeout_s=timeout_s)
    return clients[key]
