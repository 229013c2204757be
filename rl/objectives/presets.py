"""Every preset by the name of its kind."""

from __future__ import annotations

from rl.objective_config import ObjectiveKind
from rl.objectives import (
    cispo,
    dapo,
    disco,
    dr_grpo,
    f_grpo,
    focal,
    gmpo,
    grpo,
    gspo,
    rank_grpo,
    reinforce_pp,
    rloo,
    sapo,
)
from rl.objectives.preset import Preset

PRESETS: dict[ObjectiveKind, Preset] = {
    "grpo": grpo.PRESET,
    "dr_grpo": dr_grpo.PRESET,
    "dapo": dapo.PRESET,
    "gspo": gspo.PRESET,
    "gspo_token": gspo.TOKEN_PRESET,
    "cispo": cispo.PRESET,
    "gmpo": gmpo.PRESET,
    "sapo": sapo.PRESET,
    "rloo": rloo.PRESET,
    "reinforce_pp": reinforce_pp.PRESET,
    "reinforce_pp_baseline": reinforce_pp.BASELINE_PRESET,
    "f_grpo": f_grpo.PRESET,
    "rank_grpo": rank_grpo.PRESET,
    "focal": focal.PRESET,
    "disco": disco.PRESET,
}
