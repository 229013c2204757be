"""Does the judge pay for looks? Correlation of the reward with an answer's length and markdown, inside groups.

The features are those that the arenas control for (length, headers, lists, bold; "Does style matter?", LMSYS 2024), and
code blocks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.diagnostics.bootstrap import NUM_RESAMPLES, Estimate
from rewards.diagnostics.correlations import partial_correlations, within_group_correlation

STYLE_FEATURES = ("length", "headers", "list_items", "bold", "code_blocks")

_FENCED = re.compile(r"^ {0,3}(```+|~~~+).*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^ {0,3}#{1,6}[ \t]+\S", re.MULTILINE)
_LIST_ITEM = re.compile(r"^[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=\S)(?:(?!\*\*).)+?(?<=\S)\*\*|(?<!\w)__(?=\S)(?:(?!__).)+?(?<=\S)__(?!\w)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StyleCorrelation:
    """Correlation of the reward with one feature; `partial`: with the other features held still."""

    plain: Estimate
    partial: Estimate


def style_features(text: str) -> tuple[int, ...]:
    """Counts in the order of STYLE_FEATURES; length in words, the others outside of fenced code."""
    prose, num_blocks = _FENCED.subn("", text)
    marks = (len(pattern.findall(prose)) for pattern in (_HEADER, _LIST_ITEM, _BOLD))
    return (len(text.split()), *marks, num_blocks)


def style_correlations(
    rewards: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, StyleCorrelation]:
    """Every feature's plain and partial correlation with the reward, within groups; bootstrap over groups.

    Args:
        rewards, texts: per group, per slot; slots without a reward (None) are left out.
    """
    width = len(STYLE_FEATURES)
    counts = [
        np.array([style_features(text) for text in group], dtype=np.float64).reshape(-1, width) for group in texts
    ]
    partial = partial_correlations(rewards, counts, seed=seed, num_resamples=num_resamples)
    if not counts:
        partial = [Estimate(None, -1.0, 1.0, 0)] * width
    plain = [
        within_group_correlation(
            rewards, [c[:, column].tolist() for c in counts], seed=seed, num_resamples=num_resamples
        )
        for column in range(width)
    ]
    return {name: StyleCorrelation(*pair) for name, *pair in zip(STYLE_FEATURES, plain, partial, strict=True)}
