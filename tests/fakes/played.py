"""Groups of answers of known quality, played against a chat judge behind real HTTP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rewards.arena import Arena
from rewards.config import CallLimits, TournamentRewards
from rewards.endpoint_config import EndpointConfig
from rewards.judge_config import ChatJudge
from rewards.judges import build_judge
from rewards.types import Candidate, GroupKey, GroupScore, Judge, Prompt


@dataclass(frozen=True)
class Scene:
    """num_groups groups of num_candidates answers, everybody against everybody in both orders."""

    num_groups: int = 8
    num_candidates: int = 6
    seed: int = 0

    @property
    def num_calls(self) -> int:
        return self.num_groups * self.num_candidates * (self.num_candidates - 1)

    @property
    def qualities_GN(self) -> np.ndarray:  # noqa: N802 - a shape suffix
        return np.random.default_rng(self.seed).permuted(
            np.tile(np.arange(self.num_candidates), (self.num_groups, 1)), axis=1
        )


def chat_judge(base_url: str) -> ChatJudge:
    return ChatJudge(kind="chat", endpoint=EndpointConfig(base_url=base_url, model="fake"))


async def play(scene: Scene, config: ChatJudge, limits: CallLimits, *, judge: Judge | None = None) -> list[GroupScore]:
    """All groups as one batch, in the order of the scene. judge: plays instead of the config's, and stays open."""
    opened = judge or build_judge(config)
    arena = Arena(TournamentRewards(judge=config, calls=limits), opened, seed=scene.seed)
    keys = [GroupKey(f"g{group}") for group in range(scene.num_groups)]
    try:
        for key, qualities_N in zip(keys, scene.qualities_GN, strict=True):
            await arena.open(key, Prompt(key.group_id, f"Task {key}."), scene.num_candidates)
            for slot, quality in enumerate(qualities_N):
                await arena.add(key, slot, Candidate(f"{key}/{slot}", f"An answer of quality {quality}"))
        scores = await arena.scores()
    finally:
        await arena.stop()
        if judge is None:
            await opened.close()
    return [scores[key] for key in keys]


def invented(scene: Scene, scores: list[GroupScore]) -> int:
    """Verdicts in the logs that are not what the judge's rule says of these two."""
    count = 0
    for qualities_N, score in zip(scene.qualities_GN, scores, strict=True):
        for match in score.matches:
            for call in match.calls:
                truth = float(qualities_N[call.first] > qualities_N[call.second])
                count += call.verdict.value is not None and call.verdict.value != truth
    return count


def correlation(ours: list[GroupScore], theirs: list[GroupScore]) -> float:
    """Pearson correlation of the rewards that both have, centred by group."""
    pairs = []
    for one, other in zip(ours, theirs, strict=True):
        both = np.array(
            [(a, b) for a, b in zip(one.rewards, other.rewards, strict=True) if a is not None and b is not None]
        )
        pairs.append(both - both.mean(0))
    x, y = np.concatenate(pairs).T
    return float(np.corrcoef(x, y)[0, 1])
