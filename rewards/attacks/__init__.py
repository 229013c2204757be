"""Attacks on a judge, for `podium judge-audit`: pure functions text, lots -> text, by name. Ours, after the biases that
Zheng et al. 2023 (arXiv 2306.05685) and Ye et al. 2024 (arXiv 2410.02736) describe.

ADDITIONS make no answer better: put on the worse one, they should win it nothing. CORRUPTIONS make an answer wrong by a
minimal edit: a copy that has one should lose against the original. A text in which a corruption finds nothing to change
comes back as it was. The words are English.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from rewards.attacks.additions import flattery, injected_instructions, padded_length
from rewards.attacks.corruptions import changed_number, flipped_negation, swapped_names
from rewards.seating import stable_hash

Attack = Callable[[str, np.random.Generator], str]

ADDITIONS: Mapping[str, Attack] = MappingProxyType(
    {
        "padded_length": padded_length,
        "flattery": flattery,
        "injected_instructions": injected_instructions,
    }
)
CORRUPTIONS: Mapping[str, Attack] = MappingProxyType(
    {
        "changed_number": changed_number,
        "flipped_negation": flipped_negation,
        "swapped_names": swapped_names,
    }
)
ATTACKS: Mapping[str, Attack] = MappingProxyType({**ADDITIONS, **CORRUPTIONS})


def attacked(name: str, text: str, *, seed: int, key: str) -> str:
    """`text` after the attack called `name`; the same for the same seed and key, in every process."""
    return ATTACKS[name](text, np.random.default_rng(stable_hash(seed, "attack", name, key)))
