"""TRL's `reward_funcs`: each process of a GRPOTrainer sees its slice of the batch; groups that straddle two are whole.

GRPOTrainer --prompts, completions of this process--> TrlReward --one request per prompt--> service --> whole groups
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.adapters.client import RewardClient

Conversation = Sequence[Mapping[str, Any]]


class TrlReward:
    """Give it to `GRPOTrainer(reward_funcs=[...])`. An unscored completion is None, which TRL leaves out.

    Args:
        url: of `podium serve`.
        num_generations: as in GRPOConfig.
        fields: columns of the data set that the rewards read; sent as text.
        token_env, timeout_s: as for `RewardClient`.
    """

    def __init__(
        self,
        url: str,
        *,
        num_generations: int,
        fields: Sequence[str] = (),
        token_env: str | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        self.__name__ = "podium"
        self._url = url
        self._num_generations = num_generations
        self._fields = tuple(fields)
        self._token_env = token_env
        self._timeout_s = timeout_s

    def __call__(
        self, prompts: Sequence[str | Conversation], completions: Sequence[str | Conversation], **columns: Any
    ) -> list[float | None]:
        """A reward per completion.

        Raises:
            RewardServiceError: the service gave none.
        """
        return asyncio.run(self._rewards(prompts, completions, columns))

    async def _rewards(
        self,
        prompts: Sequence[str | Conversation],
        completions: Sequence[str | Conversation],
        columns: Mapping[str, Sequence[Any]],
    ) -> list[float | None]:
        slots: dict[str, list[int]] = {}  # rows of the data set may share a prompt and differ in what is read of them
        for slot, prompt in enumerate(prompts):
            row = prompt, [str(columns[name][slot]) for name in self._fields]
            slots.setdefault(repr(row), []).append(slot)
        client = RewardClient(self._url, token_env=self._token_env, timeout_s=self._timeout_s)
        rewards: list[float | None] = [None] * len(prompts)

        async def ask(members: Sequence[int]) -> None:
            reply = await client.gather(
                _prompt(prompts[members[0]]),
                [_text(completions[slot]) for slot in members],
                group_size=self._num_generations,
                fields={name: str(columns[name][members[0]]) for name in self._fields},
            )
            for slot, reward in zip(members, reply.rewards, strict=True):
                rewards[slot] = reward

        try:
            async with asyncio.TaskGroup() as group:
                for members in slots.values():
                    # A prompt that comes twice in a batch has two groups, one after the other.
                    for start in range(0, len(members), self._num_generations):
                        group.create_task(ask(members[start : start + self._num_generations]))
        finally:
            await client.close()
        return rewards


def _prompt(prompt: str | Conversation) -> str | list[dict[str, str]]:
    if isinstance(prompt, str):
        return prompt
    return [{"role": message["role"], "content": message["content"]} for message in prompt]


def _text(completion: str | Conversation) -> str:
    """A completion of a conversation is its new messages; what an assistant says in them is the answer."""
    if isinstance(completion, str):
        return completion
    return "\n".join(str(message["content"]) for message in completion if message["role"] == "assistant")
