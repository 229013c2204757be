"""The attacks of `podium judge-audit`: what does each win a worse answer, and which wrong copies go unnoticed?

additions:   better against worse  vs  better against worse + addition  --> how often does the worse one win now?
corruptions: better against a corrupted copy of itself                  --> how often is the copy not judged worse?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rewards.aggregators.votes import FloatArray
from rewards.attacks import ADDITIONS, attacked
from rewards.calibration import KnownPair
from rewards.diagnostics.bootstrap import Estimate, estimate, ratio
from rewards.diagnostics.known_pairs import pair_outcomes, pair_results, share
from rewards.types import Candidate, GroupKey, GroupScore, GroupSink, VerdictKind

Texts = tuple[str, str]
"""The answer that should win, and the other."""


async def compare_texts(
    sink: GroupSink, pairs: Sequence[KnownPair], texts: Sequence[Texts], what: str = "as given"
) -> list[GroupScore]:
    """The verdicts on two answers to each pair's prompt, as one batch; the first one is in slot 0."""
    keys = [GroupKey(f"{what}:{number}:{pair.prompt.id}") for number, pair in enumerate(pairs)]
    for key, pair, two in zip(keys, pairs, texts, strict=True):
        await sink.open(key, pair.prompt, 2)
        for slot, text in enumerate(two):
            await sink.add(key, slot, Candidate(str(slot), text))
        await sink.close(key)
    scores = await sink.scores()
    return [scores[key] for key in keys]


async def attack_judge(
    name: str, sink: GroupSink, pairs: Sequence[KnownPair], results_P: FloatArray, kind: VerdictKind, *, seed: int
) -> dict[str, Any]:
    """Figures of one attack.

    Args:
        results_P: who won before, seen from the better answer; NaN without a verdict.
        seed: of the attack; a pair's lots depend on its place in the file and its id.
    """
    on_worse = name in ADDITIONS
    targets = [pair.worse.text if on_worse else pair.better.text for pair in pairs]
    keys = [f"{number}:{pair.prompt.id}" for number, pair in enumerate(pairs)]
    copies = [attacked(name, text, seed=seed, key=key) for text, key in zip(targets, keys, strict=True)]
    hit = [number for number, (text, copy) in enumerate(zip(targets, copies, strict=True)) if text != copy]
    texts = [(pairs[number].better.text, copies[number]) for number in hit]
    scores = await compare_texts(sink, [pairs[number] for number in hit], texts, name)
    after_P = pair_results(pair_outcomes(scores), kind)
    counts = {"num_attacked": len(hit), "num_unchanged": len(pairs) - len(hit)}
    if on_worse:
        return counts | addition_figures(results_P[hit], after_P, seed=seed)
    return counts | corruption_figures(after_P)


def addition_figures(before_P: FloatArray, after_P: FloatArray, *, seed: int) -> dict[str, Any]:
    """win_rate_before and _after of the worse answer (ties count half), gain: their difference, flip_rate: of the pairs
    that it did not win before, those that it wins now. Over pairs with a verdict on both sides.

    Args:
        before_P, after_P: who won, seen from the better answer; NaN without a verdict.
    """
    both_P = ~np.isnan(before_P) & ~np.isnan(after_P)
    before_P, after_P = 1.0 - before_P[both_P], 1.0 - after_P[both_P]
    gains_P2 = np.stack([after_P - before_P, np.ones_like(after_P)], axis=-1)
    return {
        "num_missing": int((~both_P).sum()),
        "win_rate_before": estimate_json(share(before_P)),
        "win_rate_after": estimate_json(share(after_P)),
        "gain": estimate_json(estimate(gains_P2, ratio, bounds=(-1.0, 1.0), seed=seed)),
        "flip_rate": estimate_json(share((after_P[before_P < 1.0] == 1.0).astype(np.float64))),
    }


def corruption_figures(results_P: FloatArray) -> dict[str, Any]:
    """unnoticed_rate: corrupted copies that were not judged worse than their originals; preferred_rate: judged better.

    Args:
        results_P: who won, seen from the original; NaN without a verdict.
    """
    there_P = results_P[~np.isnan(results_P)]
    return {
        "num_missing": len(results_P) - len(there_P),
        "unnoticed_rate": estimate_json(share((there_P < 1.0).astype(np.float64))),
        "preferred_rate": estimate_json(share((there_P == 0.0).astype(np.float64))),
    }


def attack_lines(attacks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line per attack, for people."""
    lines: list[str] = []
    for name, found in attacks.items():
        if name in ADDITIONS:
            said = (
                f"worse wins {shown(found['win_rate_before'])} -> {shown(found['win_rate_after'])}, "
                f"flips {shown(found['flip_rate'])}"
            )
        else:
            said = f"not judged worse {shown(found['unnoticed_rate'])}, judged better {shown(found['preferred_rate'])}"
        lines.append(f"{name:<28}{said}, {found['num_attacked'] - found['num_missing']} pairs")
    return lines


def estimate_json(figure: Estimate) -> dict[str, float | int | None]:
    return {"value": figure.value, "low": figure.low, "high": figure.high, "num": figure.num_groups}


def shown(figure: dict[str, Any]) -> str:
    return "-" if figure["value"] is None else f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
