"""Objectives: presets over the shared knobs of the one `policy_loss`, and the normalisers that go with them.

A preset is a file with its formula and source; `presets.py` maps kinds to them. `resolve.py` fills every knob,
`refusals.py` says what makes no sense. Nothing here imports torch.
"""

from rl.objectives.normalizers import compute_normalizers
from rl.objectives.objective import Criteria, Disco, Objective, OffPolicy
from rl.objectives.presets import PRESETS
from rl.objectives.resolve import RewardKind, resolve_objective

__all__ = [
    "PRESETS",
    "Criteria",
    "Disco",
    "Objective",
    "OffPolicy",
    "RewardKind",
    "compute_normalizers",
    "resolve_objective",
]
