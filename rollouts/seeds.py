"""Every random choice of a run comes from its seed: seeds of rollouts by (run seed, step, group, index)."""

from __future__ import annotations

import hashlib


def rollout_seed(run_seed: int, step: int, group_id: str, index: int, attempt: int = 0) -> int:
    """A 31-bit seed that is the same on every machine and differs for every rollout of a run."""
    identity = f"{run_seed}/{step}/{group_id}/{attempt}/{index}"
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") >> 1
