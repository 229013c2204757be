"""Does the reward follow something that it should not? Correlations inside groups, groups being what is drawn again.

Shapes: G groups, N rollouts of a group, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rewards.aggregators.votes import FloatArray
from rewards.diagnostics.bootstrap import NUM_RESAMPLES, Estimate, estimate

_NONE_LEFT = 1e-9
"""A feature whose variance is explained by the others down to this share has no correlation of its own."""


def within_group_correlation(
    rewards: Sequence[Sequence[float | None]],
    values: Sequence[Sequence[float]],
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """Pearson correlation of reward and value, both centred per group, then pooled; bootstrap over groups.

    Args:
        rewards, values: per group, per slot; slots without a reward (None) are left out.
    """
    features = [np.asarray(group, dtype=np.float64).reshape(-1, 1) for group in values]
    products_GFF = _products(rewards, features)
    return _estimate(products_GFF, feature=0, others=[], seed=seed, num_resamples=num_resamples)


def partial_correlations(
    rewards: Sequence[Sequence[float | None]],
    features: Sequence[npt.ArrayLike],
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> list[Estimate]:
    """Correlation of the reward with each feature once the other features are regressed out of both, within groups.

    None for a feature that does not vary in any group, or that the others give exactly.

    Args:
        features: per group, [N, F] with one column per feature.
    """
    products_GFF = _products(rewards, [np.asarray(group, dtype=np.float64) for group in features])
    columns = range(products_GFF.shape[-1] - 1)
    return [
        _estimate(
            products_GFF,
            feature=column,
            others=[other for other in columns if other != column],
            seed=seed,
            num_resamples=num_resamples,
        )
        for column in columns
    ]


def _products(rewards: Sequence[Sequence[float | None]], features: Sequence[FloatArray]) -> FloatArray:
    """Per group the products of its centred columns, [G, 1 + F, 1 + F]: the reward first, then the features."""
    products: list[FloatArray] = []
    for group_rewards, features_NF in zip(rewards, features, strict=True):
        if len(group_rewards) != len(features_NF):
            raise ValueError(f"a group of {len(group_rewards)} rewards has features of {len(features_NF)} rollouts")
        rewards_N = np.array([np.nan if reward is None else reward for reward in group_rewards], dtype=np.float64)
        scored_N = ~np.isnan(rewards_N)
        columns_NF = np.column_stack([rewards_N, features_NF])[scored_N]
        # Of columns that do not vary nothing may be left but an exact zero.
        varies_F = (
            np.ptp(columns_NF, axis=0) > 0.0 if len(columns_NF) else np.zeros(columns_NF.shape[1], dtype=np.bool_)
        )
        centred_NF = (columns_NF - columns_NF.mean(0)) * varies_F if len(columns_NF) else columns_NF
        products.append(centred_NF.T @ centred_NF)
    width = 1 + (features[0].shape[1] if features else 0)
    return np.array(products, dtype=np.float64).reshape(-1, width, width)


def _estimate(
    products_GFF: FloatArray, *, feature: int, others: Sequence[int], seed: int, num_resamples: int
) -> Estimate:
    width = products_GFF.shape[-1]
    pair, rest = [0, 1 + feature], [1 + other for other in others]

    def correlation(sums: FloatArray) -> FloatArray:
        products = sums.reshape(*sums.shape[:-1], width, width)
        # To unit diagonal first: features have units of their own, and pinv's cut-off is relative.
        scale = np.sqrt(np.diagonal(products, axis1=-2, axis2=-1))
        scale = np.where(scale > 0.0, scale, 1.0)
        products = products / (scale[..., :, None] * scale[..., None, :])
        block = products[..., pair, :][..., :, pair]
        if rest:
            cross = products[..., pair, :][..., :, rest]
            inverse = np.linalg.pinv(products[..., rest, :][..., :, rest], rcond=_NONE_LEFT, hermitian=True)
            block = block - cross @ inverse @ cross.swapaxes(-1, -2)
        own = block[..., 1, 1] > _NONE_LEFT
        paid = block[..., 0, 0] > _NONE_LEFT
        norm = np.sqrt(np.where(own & paid, block[..., 0, 0] * block[..., 1, 1], 1.0))
        return np.where(own & paid, block[..., 0, 1] / norm, np.nan)

    sums_GK = products_GFF.reshape(len(products_GFF), width * width)
    return estimate(sums_GK, correlation, bounds=(-1.0, 1.0), seed=seed, num_resamples=num_resamples)
