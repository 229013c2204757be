"""What OpenRLHF's remote reward client asks of a server, and what it wants to hear. Pure; `rewards/http.py` serves it.

--reward.remote_url "http://rewards:8780/v1/openrlhf?group_size=8"    group_size = rollout.n_samples_per_prompt

It sends one rollout a request, prompt and answer in one text, and takes one number; it cannot leave a rollout out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from rewards.gathering import Gathered
from rewards.strict import StrictModel
from rewards.texts import GroupOfTexts, Text


class OneAnswer(GroupOfTexts):
    candidates: Annotated[list[Text], Field(min_length=1, max_length=1)]


class RemoteQuery(StrictModel):
    """One rollout."""

    query: str
    prompt: str
    label: str | None

    def members(self, fields: Sequence[str]) -> OneAnswer:
        """label: stands for every field that the rewards read."""
        answer = self.query.removeprefix(self.prompt)
        return OneAnswer(prompt=self.prompt, candidates=[answer], fields=dict.fromkeys(fields, self.label or ""))


class RemoteRewardRequest(StrictModel):
    """As OpenRLHF 0.11 sends it."""

    query: Annotated[list[Text], Field(min_length=1, max_length=1024)]
    """Prompt and answer in one."""
    prompts: Annotated[list[Text], Field(min_length=1, max_length=1024)]
    labels: Annotated[list[Text | None], Field(max_length=1024)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_prompt_each(self) -> Self:
        if len(self.prompts) != len(self.query) or len(self.labels) not in (0, len(self.query)):
            raise ValueError("prompts, and labels if there are any, must be as many as the queries")
        return self

    def split(self) -> list[RemoteQuery]:
        """Queries with their prompts; a missing label is None."""
        labels = self.labels or [None] * len(self.query)
        return [
            RemoteQuery(query=query, prompt=prompt, label=label)
            for query, prompt, label in zip(self.query, self.prompts, labels, strict=True)
        ]


class RemoteRewardReply(StrictModel):
    """A number for one query, a list for several, which is what OpenRLHF makes tensors of."""

    rewards: float | list[float]
    scores: float | list[float]
    extra_logs: dict[str, float | list[float]]


def remote_reply(gathered: Sequence[Gathered]) -> dict[str, Any]:
    """An unscored rollout gets the mean of its group, so that it is not pushed; 0 where nobody in it is scored."""
    firsts = [(one.rewards[0], one.group_mean) for one in gathered]
    rewards = [reward if reward is not None else mean if mean is not None else 0.0 for reward, mean in firsts]
    unscored = [float(reward is None) for reward, _ in firsts]
    if len(gathered) == 1:
        return {"rewards": rewards[0], "scores": rewards[0], "extra_logs": {"podium_unscored": unscored[0]}}
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"podium_unscored": unscored}}
