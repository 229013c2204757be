"""What `policy_loss` divides by: counts over the whole optimizer batch, so that its parts add up.

Shapes: B rollouts, T answer tokens, S segment buckets; bucket 0 holds the tokens without a segment (id -1), bucket s+1
those of segment s.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from rl.objectives.objective import Objective


def compute_normalizers(
    segment_ids: Iterable[npt.ArrayLike], masks: Iterable[npt.ArrayLike], *, objective: Objective
) -> npt.NDArray[np.float64]:
    """normalizers_S: what `policy_loss` divides each segment bucket's sum by, over the whole optimizer batch.

    token: loss tokens of the bucket. sequence: rollouts with a loss token in the bucket. segment: (rollout, segment)
    pairs with a loss token, the same for every segment; bucket 0 as `sequence`. constant: constant_tokens x rollouts
    with any loss token, the same for every bucket, so that segments with equal advantages give the loss that they give
    without segments. Each is then divided by the bucket's segment weight (weight 0: infinity).

    Args:
        segment_ids: one row of ids per rollout, [T] each and ragged, or a [B, T] array. -1 = no segment.
        masks: rows of the same lengths, true at loss tokens.
    """
    counts_rows = [
        np.bincount(np.asarray(ids)[np.asarray(mask, dtype=bool)].astype(np.int64) + 1)
        for ids, mask in zip(segment_ids, masks, strict=True)
    ]
    num_buckets = max((len(row) for row in counts_rows), default=0) or 1
    counts_BS = np.zeros((len(counts_rows), num_buckets))
    for b, row in enumerate(counts_rows):
        counts_BS[b, : len(row)] = row
    weights_S = np.array([objective.segment_weight(bucket - 1) for bucket in range(num_buckets)])
    return np.divide(_counts(counts_BS, objective), weights_S, out=np.full(num_buckets, np.inf), where=weights_S > 0)


def _counts(counts_BS: npt.NDArray[np.float64], objective: Objective) -> npt.NDArray[np.float64]:
    if objective.aggregation == "token":
        return counts_BS.sum(axis=0)
    if objective.aggregation == "sequence":
        return (counts_BS > 0).sum(axis=0).astype(np.float64)
    if objective.aggregation == "segment":
        pairs_S = (counts_BS > 0).sum(axis=0).astype(np.float64)
        pairs_S[1:] = pairs_S[1:].sum()
        return pairs_S
    if objective.constant_tokens is None:
        raise ValueError("aggregation `constant` needs constant_tokens")
    num_rollouts = int(counts_BS.any(axis=1).sum())
    return np.full(counts_BS.shape[1], float(objective.constant_tokens * num_rollouts))
