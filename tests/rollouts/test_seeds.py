from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from rollouts.seeds import rollout_seed

NAMES = st.text(max_size=20)
COUNTS = st.integers(0, 2**31)


def test_seeds_are_the_same_on_every_machine() -> None:
    # The first 31 bits of SHA-256 of "0/1/step1-0/0/0" and of "7/12/heldout12-3/1/5".
    assert rollout_seed(0, 1, "step1-0", 0) == 1353990964
    assert rollout_seed(7, 12, "heldout12-3", 5, attempt=1) == 1946009086


@given(COUNTS, COUNTS, NAMES, COUNTS, COUNTS)
def test_a_seed_is_pure_and_has_31_bits(run_seed: int, step: int, group: str, index: int, attempt: int) -> None:
    seed = rollout_seed(run_seed, step, group, index, attempt)
    assert 0 <= seed < 2**31
    assert seed == rollout_seed(run_seed, step, group, index, attempt)


def test_every_rollout_of_a_run_has_a_seed_of_its_own() -> None:
    parts = itertools.product((0, 1), range(1, 11), ("step1-0", "step1-1", "step11-0", "1/step1-0"), range(8), (0, 1))
    seeds = [rollout_seed(*part) for part in parts]
    # 1280 draws of 2^31: a collision has a chance of 0.04 %, and these seeds are fixed.
    assert len(set(seeds)) == len(seeds) == 2 * 10 * 4 * 8 * 2
