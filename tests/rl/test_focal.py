from __future__ import annotations

import numpy as np
import pytest

from rewards.errors import UserError
from rl.focal import focal_scales


def test_groups_that_mostly_succeed_teach_less() -> None:
    # mean of the scored 3/4: (1/4)^gamma; the unscored one is no part of it
    np.testing.assert_allclose(focal_scales([1.0, 1.0, 1.0, 0.0, None], 0.5), [0.5, 0.5, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(focal_scales([1.0, 1.0, 1.0, 0.0], 2.0), [1 / 16] * 4)
    np.testing.assert_allclose(focal_scales([0.0, 0.0], 2.0), [1.0, 1.0])


def test_those_who_share_a_baseline_share_a_scale() -> None:
    np.testing.assert_allclose(focal_scales([1.0, 0.0, 0.5, 0.5], 1.0, [0, 0, 7, 7]), [0.5] * 4)
    np.testing.assert_allclose(focal_scales([1.0, 0.5, 0.25, 0.0], 1.0, [0, 0, 7, 7]), [0.25, 0.25, 0.875, 0.875])


@pytest.mark.parametrize("reward", [1.5, -0.1])
def test_rewards_outside_0_and_1_are_refused(reward: float) -> None:
    with pytest.raises(UserError, match=rf"rl\.objective\.focal_gamma: needs rewards in \[0, 1\], and one is {reward}"):
        focal_scales([0.5, reward], 1.0)
