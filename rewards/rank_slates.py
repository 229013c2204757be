"""Ranking with a plain function that ranks several candidates at once: `rank_group` for listwise judges.

score = rank_group_k(16, lambda slots: judge([answers[slot] for slot in slots]))     # a place per slot, or None
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rewards.arena import Arena
from rewards.errors import JudgeFailure, UserError
from rewards.judges.python import as_places
from rewards.rank import make_config, rank_in_arena, run
from rewards.types import Candidate, GroupScore, Orders, Places, Prior, Prompt

PlacesGiven = Sequence[int] | None
Rank = Callable[[tuple[int, ...]], PlacesGiven | Awaitable[PlacesGiven]]


def rank_group_k(
    num_candidates: int,
    rank: Rank,
    *,
    k: int = 4,
    rounds: int | None = None,
    aggregator: str = "empirical_bayes",
    orders: Orders = "both",
    seed: int = 0,
    **options: Any,
) -> GroupScore:
    """Ranks one group by calls that each rank up to `k` candidates (topology `k_wise`, K-Sort Arena).

    Args:
        num_candidates: at least 2.
        rank: `rank(slots)`, candidates in the order shown: for each how many of them are better (0 for the best, level
            ones share the lowest place: `[1, 0, 1]`), or None when there is no ranking; sync or async. Raise
            `JudgeFailure` to be asked again.
        k: most candidates in one call, 2 to 16.
        rounds: default 1 + ceil(log2 N); ceil(N/k) slates each; one slate where k >= N.
        aggregator, seed, options: as in `rank_group`, the topology's options apart.
        orders: "both" asks about each slate twice, then reversed; "random" in an order by lot; "first" ascending,
            for a `symmetric` function only.

    Returns:
        a score whose `rankings` are the calls; `matches` is empty. Rewards are win probabilities: places are `hard`.

    Raises:
        UserError: a bad argument, or places from `rank` that are none.
    """
    if not isinstance(num_candidates, int) or num_candidates < 2:
        raise UserError(f"num_candidates: a group has at least 2 candidates, got {num_candidates!r}")
    prior: Prior | None = options.pop("prior", None)
    config, judge = make_config("k_wise", aggregator, orders, "hard", {**options, "k": k, "rounds": rounds})
    arena = Arena(config, _FunctionRanker(rank, symmetric=judge.symmetric), seed=seed, prior=prior, groups_per_step=1)
    (score,) = run(rank_in_arena([num_candidates], arena))
    return score


class _FunctionRanker:
    """A list judge around a user's `rank(slots)`."""

    name = "rank"

    def __init__(self, rank: Rank, *, symmetric: bool) -> None:
        self._rank = rank
        self.symmetric = symmetric

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        slots = tuple(int(candidate.id) for candidate in candidates)
        said = self._rank(slots)
        if inspect.isawaitable(said):
            said = await said
        if said is None:
            raise JudgeFailure("empty", "rank returned None", retryable=False)
        return as_places(said, len(slots), f"rank({slots})")

    async def close(self) -> None:
        pass
