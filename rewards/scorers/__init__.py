"""Scorers: per-rollout rewards from parsed answers. One file per family, its config in `rewards/scorer_config.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from rewards.scorer_config import ScorerConfig
from rewards.scorers.slate_rank import score_items, score_phases
from rewards.types import Candidate, Prompt, Scored

SCORERS: Mapping[str, Callable[[Any, Prompt, Candidate], Scored]] = MappingProxyType(
    {"slate_rank": score_phases, "item_rank": score_items}
)


def build_scorer(config: ScorerConfig) -> Callable[[Prompt, Candidate], Scored]:
    """The function that scores one rollout."""
    return partial(SCORERS[config.kind], config)
