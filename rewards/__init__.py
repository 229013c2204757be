"""From texts to scores: judges, matches, topologies, aggregators, gates.

`rank_group`, `rank_groups` and `rank_group_k` are the doorway for library users. They load on first use, so that
importing a config or a type costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewards.rank import rank_group, rank_groups
    from rewards.rank_slates import rank_group_k

__all__ = ["rank_group", "rank_group_k", "rank_groups"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import rewards.rank
        import rewards.rank_slates

        return getattr(rewards.rank_slates if name == "rank_group_k" else rewards.rank, name)
    raise AttributeError(f"module 'rewards' has no attribute {name!r}")
