"""Prints whether a real embedding judge's scores follow human grades better than its hard verdicts do.

    python -m tests.bench.lee_table [--draws 40]

50 news texts whose similarity to each other people graded (Lee, Pincombe and Welsh 2005; shipped by gensim). A group is
one text as the reference and 8 others as candidates, drawn by lot; the judge is the quickstart's sentence encoder
(all-MiniLM-L6-v2): the candidate closer to the reference wins. It is asked once about each pair; its hard verdict is
the sign of its score. Compared with the human grades of the candidates: the cosine of centred rewards over all groups,
the mean Pearson correlation inside a group, and Kendall's tau-b inside a group. Intervals: 95 %, bootstrap over
references.

All groups: candidates at random. Alike: all 8 graded within 0.1 of each other, where rewards should be small.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rewards.aggregator_config import AggregatorConfig, EmpiricalBayes, RankQuantile, WinRate
from rewards.aggregators import build_aggregator
from rewards.judges.sentence_encoder import SentenceEncoder
from rewards.types import Call, Match, MatchLog, Pairing, Verdict
from rollouts.models import resolve_model

NUM_CANDIDATES = 8
REFERENCES_A_BATCH = 50


def read_texts() -> tuple[list[str], np.ndarray]:
    """The texts, and the mean human similarity of each two, in [0, 1]."""
    spec = importlib.util.find_spec("gensim")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "test" / "test_data"
    texts = (folder / "lee.cor").read_text(encoding="latin-1").strip().splitlines()
    upper = np.loadtxt(folder / "similarities0-1.txt")
    return texts, np.triu(upper, 1) + np.triu(upper, 1).T


def log_of(scores_N: np.ndarray, *, hard: bool) -> MatchLog:
    """A round-robin of a symmetric judge whose score is a difference."""
    matches = []
    for a in range(len(scores_N)):
        for b in range(a + 1, len(scores_N)):
            gap = float(scores_N[a] - scores_N[b])
            verdict = Verdict((float(np.sign(gap)) + 1.0) / 2.0 if hard else gap)
            matches.append(Match(Pairing(a, b), (Call(a, b, verdict, "embedding"),)))
    return MatchLog(len(scores_N), "hard" if hard else "score", tuple(matches), symmetric=True)


WAYS: dict[str, tuple[bool, AggregatorConfig]] = {
    "hard, z-scored rank (rank_quantile)": (True, RankQuantile(kind="rank_quantile")),
    "hard, win rate": (True, WinRate(kind="win_rate")),
    "hard, empirical Bayes": (True, EmpiricalBayes()),
    "scores, centred": (False, EmpiricalBayes()),
    "scores, win shares": (False, EmpiricalBayes(score_rewards="win_share")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    texts, human_DD = read_texts()
    encoder = SentenceEncoder(resolve_model("package:all-minilm-l6-v2"), max_tokens=256, batch_size=16)
    vectors = encoder.encode(texts)
    judge_DD = vectors @ vectors.T
    rng = np.random.default_rng(options.seed)
    groups = [
        (reference, rng.permutation([text for text in range(len(texts)) if text != reference])[:NUM_CANDIDATES])
        for _ in range(options.draws)
        for reference in range(len(texts))
    ]
    grades = np.array([human_DD[reference, members] for reference, members in groups])
    scores = np.array([judge_DD[reference, members] for reference, members in groups])
    references = np.array([reference for reference, _ in groups])
    alike = np.ptp(grades, axis=1) <= 0.1
    print(f"{len(groups)} groups, {int(alike.sum())} of them alike; spread is the mean |reward - group mean|, all = 1")
    print("| verdict and reward | cosine | Pearson | Kendall | spread where alike |")
    print("|---|---|---|---|---|")
    for name, (hard, config) in WAYS.items():
        rewards = _rewards(config, scores, hard=hard)
        spread = np.abs(rewards - rewards.mean(1, keepdims=True)).mean(1)
        columns = [_interval(measure, rewards, grades, references, rng) for measure in (_cosine, _pearson, _kendall)]
        print(f"| {name} | " + " | ".join(columns) + f" | {spread[alike].mean() / spread.mean():.2f} |", flush=True)


def _rewards(config: AggregatorConfig, scores: np.ndarray, *, hard: bool) -> np.ndarray:
    """Batches of as many groups as there are references, as a step would have them."""
    rewards: list[list[float | None]] = []
    for start in range(0, len(scores), REFERENCES_A_BATCH):
        logs = [log_of(one, hard=hard) for one in scores[start : start + REFERENCES_A_BATCH]]
        rewards += [one.rewards for one in build_aggregator(config).fit(logs)[0]]
    return np.array(rewards, dtype=np.float64)


def _cosine(rewards: np.ndarray, grades: np.ndarray) -> float:
    a, b = (x - x.mean(1, keepdims=True) for x in (rewards, grades))
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def _pearson(rewards: np.ndarray, grades: np.ndarray) -> float:
    a, b = (x - x.mean(1, keepdims=True) for x in (rewards, grades))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(1)[norms > 0.0] / norms[norms > 0.0]))


def _kendall(rewards: np.ndarray, grades: np.ndarray) -> float:
    from scipy.stats import kendalltau

    taus = [np.asarray(kendalltau(a, b)).ravel()[0] for a, b in zip(rewards, grades, strict=True)]
    return float(np.nanmean(np.array(taus, dtype=np.float64)))


def _interval(
    measure: Callable[[np.ndarray, np.ndarray], float],
    rewards: np.ndarray,
    grades: np.ndarray,
    references: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
) -> str:
    by_reference = [np.flatnonzero(references == reference) for reference in np.unique(references)]
    value = measure(rewards, grades)
    if measure is _kendall:
        # tau of a group does not change with the draw: bootstrap the means of the references.
        means = np.array([measure(rewards[rows], grades[rows]) for rows in by_reference])
        drawn = [float(rng.choice(means, len(means)).mean()) for _ in range(500)]
    else:
        drawn = []
        for _ in range(500):
            rows = np.concatenate([by_reference[i] for i in rng.integers(0, len(by_reference), len(by_reference))])
            drawn.append(measure(rewards[rows], grades[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
