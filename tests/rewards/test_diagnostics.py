"""Diagnostics: by hand, against slow readings of the definitions, and against evalica where it has the figure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.aggregators.triads import circular_triad_rate as rate_of_table
from rewards.aggregators.votes import verdict_table
from rewards.diagnostics.agreement import (
    Outcomes,
    audit_outcomes,
    judge_outcomes,
    krippendorff_alpha,
    pairwise_agreement,
)
from rewards.diagnostics.bootstrap import Estimate, estimate, ratio
from rewards.diagnostics.correlations import partial_correlations, within_group_correlation
from rewards.diagnostics.cycles import circular_triad_rate, conflict_rate, consistence, triads, winners
from rewards.diagnostics.diagnose import diagnose
from rewards.diagnostics.informativeness import anchor_informativeness, informativeness
from rewards.diagnostics.style import STYLE_FEATURES, style_correlations, style_features
from rewards.health import Rate
from rewards.types import Call, GroupScore, Match, MatchLog, Pairing, Ranking, Slate, Verdict, VerdictKind
from tests.rewards.logs import Vote, log_of, match_logs, relabelled

property_test = settings(max_examples=40)

VOTE_KINDS: list[VerdictKind] = ["hard", "probability", "score"]

UNKNOWN = Estimate(None, 0.0, 1.0, 0)


def score_of(votes: list[Vote], num_candidates: int, kind: VerdictKind = "hard") -> GroupScore:
    return score_of_log(log_of(votes, num_candidates, kind))


def score_of_log(log: MatchLog) -> GroupScore:
    calls = sum(len(match.calls) for match in log.matches)
    failed = sum(call.verdict.value is None for match in log.matches for call in match.calls)
    rewards: list[float | None] = [float(slot) for slot in range(log.num_candidates)]
    return GroupScore(rewards, matches=log.matches, kind=log.kind, num_calls=calls, num_failed=failed)


def league(size: int, upsets: Sequence[tuple[int, int]] = ()) -> GroupScore:
    """Everybody meets, the lower slot wins, but for the upsets (loser, winner)."""
    return score_of([(i, j, float((i, j) not in upsets)) for i, j in combinations(range(size), 2)], size)


CIRCLE = score_of([(0, 1, 1.0), (1, 2, 1.0), (2, 0, 1.0)], 3)
SQUARE = score_of([(0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0), (3, 0, 1.0)], 4)
KNOCKOUT = score_of([(0, 1, 1.0), (2, 3, 1.0), (0, 2, 1.0)], 4)


# --- the bootstrap ----------------------------------------------------------------------------------------------


def test_bootstrap_of_two_groups_by_hand() -> None:
    """Drawn again, the two groups (0 of 1) and (1 of 1) give 0, 1/2, 1 with chances 1/4, 1/2, 1/4."""
    found = estimate(np.array([[0.0, 1.0], [1.0, 1.0]]), ratio, bounds=(0.0, 1.0), seed=0)
    assert found == Estimate(0.5, 0.0, 1.0, 2)
    inner = estimate(np.array([[0.0, 1.0], [1.0, 1.0]]), ratio, bounds=(0.0, 1.0), seed=0, confidence=0.4)
    assert (inner.low, inner.high) == (0.5, 0.5)


def test_bootstrap_knows_when_it_knows_nothing() -> None:
    for rows in ([], [[0.0, 0.0]]):
        assert estimate(np.array(rows).reshape(-1, 2), ratio, bounds=(0.0, 1.0), seed=0) == UNKNOWN
    assert estimate(np.array([[1.0, 4.0]]), ratio, bounds=(0.0, 1.0), seed=0) == Estimate(0.25, 0.0, 1.0, 1)
    assert UNKNOWN.metrics("x") == {}
    assert Estimate(0.5, 0.25, 0.75, 9).metrics("x") == {"x": 0.5, "x_low": 0.25, "x_high": 0.75}


def test_bootstrap_interval_covers_about_as_often_as_it_says() -> None:
    """60 groups of 5 coin flips of a group's own chance, uniform: the mean is 1/2. 95 % intervals, 200 times."""
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        wins_G = rng.binomial(5, rng.random(60))
        found = estimate(np.stack([wins_G, np.full(60, 5)], -1).astype(float), ratio, bounds=(0, 1), seed=seed)
        covered += found.low <= 0.5 <= found.high
    assert 180 <= covered <= 199


@property_test
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=8), st.integers(0, 5))
def test_bootstrap_draws_whole_groups(rows: list[tuple[int, int]], seed: int) -> None:
    """Against drawing by index; and groups without anything change nothing."""
    sums_GK = np.array([(min(row), sum(row)) for row in rows], dtype=np.float64)
    found = estimate(sums_GK, ratio, bounds=(0.0, 1.0), seed=seed, num_resamples=3000)
    padded = np.concatenate([sums_GK, np.zeros((3, 2))])
    assert estimate(padded, ratio, bounds=(0.0, 1.0), seed=seed, num_resamples=3000) == found
    told_GK = sums_GK[sums_GK.any(-1)]
    if len(told_GK) < 2:
        assert (found.low, found.high) == (0.0, 1.0)
        return
    rng = np.random.default_rng(99)
    figures_R = [ratio(told_GK[rng.integers(0, len(told_GK), len(told_GK))].sum(0)) for _ in range(3000)]
    for tail, bound in ((0.025, found.low), (0.975, found.high)):
        # The two sets of draws are not the same: the bound lies between nearby quantiles of the other.
        near = np.quantile(figures_R, [max(0.0, tail - 0.015), min(1.0, tail + 0.015)])
        assert near[0] - 1e-9 <= bound <= near[1] + 1e-9


# --- contradictions ---------------------------------------------------------------------------------------------


def test_circular_triads_by_hand() -> None:
    """Of 0 > 1 > 2 > 3 with 3 > 0, the triples 013 and 023 go round, 012 and 123 do not."""
    upset = league(4, [(0, 3)])
    assert triads(winners(upset)) == (2, 4)
    assert circular_triad_rate([upset]) == Estimate(0.5, 0.0, 1.0, 1)
    # With a league without upsets: (2 + 0) of (4 + 4); alone, the two give 1/2 and 0.
    assert circular_triad_rate([upset, league(4)]) == Estimate(0.25, 0.0, 0.5, 2)
    assert circular_triad_rate([KNOCKOUT, SQUARE]) == UNKNOWN  # no triple has three pairs


def test_consistence_by_hand() -> None:
    """T_max is 1 of 3, 2 of 4 and 5 of 5 candidates."""
    assert consistence([CIRCLE]).value == 0.0
    assert consistence([league(4, [(0, 3)])]).value == 0.0
    rotation = score_of([(i, (i + step) % 5, 1.0) for i in range(5) for step in (1, 2)], 5)
    assert triads(winners(rotation)) == (5, 10)
    assert consistence([rotation]).value == 0.0
    assert consistence([rotation, league(5)]).value == 0.5
    assert consistence([rotation, league(3)]).value == pytest.approx(1 / 6)
    assert consistence([SQUARE, KNOCKOUT, league(2)]) == UNKNOWN  # not every pair, or no triple


def test_conflict_rate_by_hand() -> None:
    assert conflict_rate([league(5), CIRCLE]) == Rate(1, 2)
    assert conflict_rate([SQUARE]) == Rate(1, 1)  # a circle of four holds no triad
    assert conflict_rate([KNOCKOUT, league(2)]) == Rate(0, 0)  # could not contradict itself
    tied = score_of([(0, 1, 1.0), (1, 2, 1.0), (2, 0, 0.5)], 3)
    assert conflict_rate([tied]) == Rate(0, 0)
    flipped = score_of([(0, 1, 1.0), (1, 0, 1.0), (1, 2, 1.0), (2, 0, 1.0)], 3)
    assert conflict_rate([flipped]) == Rate(0, 0)
    low, high = conflict_rate([league(5), CIRCLE]).interval()
    assert (low, high) == (pytest.approx(0.0945, abs=1e-4), pytest.approx(0.9055, abs=1e-4))  # Wilson, 1 of 2


def test_rankings_contradict_each_other_by_their_pairs() -> None:
    def ranked(*slots: int) -> Ranking:
        return Ranking(Slate(tuple(sorted(slots))), slots, tuple(range(len(slots))), "judge")

    # One ranking is straight; 0 > 1, 1 > 2 and 2 > 0 go round.
    straight = GroupScore([None] * 3, kind="hard", rankings=(ranked(0, 1, 2),))
    round_ = GroupScore([None] * 3, kind="hard", rankings=(ranked(0, 1), ranked(1, 2), ranked(2, 0)))
    assert triads(winners(straight)) == (0, 1)
    assert triads(winners(round_)) == (1, 1)


@property_test
@given(st.sampled_from(VOTE_KINDS).flatmap(match_logs), st.randoms(use_true_random=False))
def test_contradictions_against_their_definitions(log: MatchLog, random: object) -> None:
    score = score_of_log(log)
    beats_NN = winners(score)
    n = log.num_candidates
    triples = [
        t for t in combinations(range(n), 3) if all(beats_NN[i, j] | beats_NN[j, i] for i, j in combinations(t, 2))
    ]
    circular = [
        t for t in triples if any(beats_NN[a, b] and beats_NN[b, c] and beats_NN[c, a] for a, b, c in permutations(t))
    ]
    assert triads(beats_NN) == (len(circular), len(triples))
    assert circular_triad_rate([score]).value == rate_of_table(verdict_table(log))
    circles = [
        ring
        for size in range(3, n + 1)
        for ring in permutations(range(n), size)
        if all(beats_NN[ring[k], ring[(k + 1) % size]] for k in range(size))
    ]
    decided_NN = beats_NN | beats_NN.T
    possible = any(
        all(decided_NN[ring[k], ring[(k + 1) % size]] for k in range(size))
        for size in range(3, n + 1)
        for ring in permutations(range(n), size)
    )
    assert conflict_rate([score]) == Rate(int(bool(circles)), int(possible))
    order = list(range(n))
    random.shuffle(order)  # type: ignore[attr-defined]
    renamed = score_of_log(relabelled(log, order))
    assert triads(winners(renamed)) == triads(beats_NN)
    assert conflict_rate([renamed]) == conflict_rate([score])


# --- informativeness --------------------------------------------------------------------------------------------


def test_informativeness_of_a_complete_order() -> None:
    """An anchor with w wins of m matches parts w (m - w) of m (m - 1) / 2 pairs; over all anchors that is a third."""
    order = league(5)
    assert [anchor_informativeness([order], slot).value for slot in range(5)] == [
        0.0,
        0.5,
        pytest.approx(2 / 3),
        0.5,
        0.0,
    ]
    for size in (3, 4, 5, 8):
        assert informativeness([league(size)]).value == pytest.approx(1 / 3)
    assert anchor_informativeness([order, order, CIRCLE], [2, 0, 0]).value == pytest.approx((4 + 0 + 1) / (6 + 6 + 1))


def test_informativeness_of_ties_and_gaps() -> None:
    tied = score_of([(0, 1, 0.5), (0, 2, 0.5), (0, 3, 1.0)], 4)
    assert anchor_informativeness([tied], 0).value == pytest.approx(2 / 3)
    assert informativeness([tied]).value == pytest.approx(2 / 3)  # nobody else met two
    assert anchor_informativeness([tied], 1) == UNKNOWN
    assert informativeness([CIRCLE]).value == 1.0
    failed = score_of([(0, 1, 1.0), (0, 2, None), (3, 0, 1.0)], 4)
    assert anchor_informativeness([failed], 0).value == 1.0


@property_test
@given(st.sampled_from(VOTE_KINDS).flatmap(match_logs))
def test_informativeness_against_its_definition(log: MatchLog) -> None:
    score = score_of_log(log)
    result = {(m.pairing.a, m.pairing.b): m.result(log.kind) for m in log.matches}
    seen = {pair: value for pair, value in result.items() if value is not None}
    seen |= {(b, a): 1.0 - value for (a, b), value in seen.items()}
    pairs = [
        (anchor, seen[anchor, i] != seen[anchor, j])
        for anchor in range(log.num_candidates)
        for i, j in combinations(range(log.num_candidates), 2)
        if (anchor, i) in seen and (anchor, j) in seen
    ]
    assert informativeness([score]).value == (pytest.approx(np.mean([d for _, d in pairs])) if pairs else None)
    for slot in range(log.num_candidates):
        of_slot = [different for anchor, different in pairs if anchor == slot]
        expected = pytest.approx(np.mean(of_slot)) if of_slot else None
        assert anchor_informativeness([score], slot).value == expected


# --- correlations -----------------------------------------------------------------------------------------------

GROUPS = st.lists(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(-3, 3)), *[st.integers(0, 4)] * 3), min_size=1, max_size=5),
    min_size=1,
    max_size=6,
)


def test_correlation_by_hand() -> None:
    """Group levels are taken out: +1 inside both groups although the second has longer and worse answers."""
    found = within_group_correlation([[0.8, 0.9], [0.1, 0.2]], [[1, 2], [11, 12]])
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    mixed = within_group_correlation([[0.0, 1.0], [0.0, 1.0]], [[0, 1], [1, 0]])
    assert (mixed.value, mixed.low, mixed.high) == pytest.approx((0.0, -1.0, 1.0))
    assert within_group_correlation([[0.5, 0.5], [None, 1.0]], [[1, 2], [3, 4]]).value is None
    assert within_group_correlation([], []).value is None


def test_partial_correlation_by_hand() -> None:
    """Rewards follow length alone; headers follow length. r(reward, headers) > 0, and nothing of it is theirs."""
    length_N, headers_N = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0, 1.0])
    features_N2 = np.stack([length_N, headers_N], axis=-1)
    rewards = [length_N.tolist()] * 2
    plain = within_group_correlation(rewards, [headers_N.tolist()] * 2)
    assert plain.value == pytest.approx(2 / 5**0.5)  # products 2, variances 5 and 1
    length, headers = partial_correlations(rewards, [features_N2] * 2)
    assert length.value == pytest.approx(1.0)
    assert headers.value is None  # length gives the reward exactly: nothing is left to correlate


def test_features_that_others_give_have_no_correlation_of_their_own() -> None:
    rng = np.random.default_rng(0)
    words_GN = rng.integers(0, 50, (6, 5)).astype(float)
    features = [np.stack([words_N, 7.0 * words_N, np.ones(5)], axis=-1) for words_N in words_GN]
    found = partial_correlations(rng.random((6, 5)).tolist(), features)
    assert [one.value for one in found] == [None, None, None]


@property_test
def pooled_correlation(rewards: list[list[float | None]], values: list[list[int]]) -> float | None:
    """Slow and obvious: both centred inside each group, then numpy's own correlation of all of them."""
    columns: list[tuple[float, float]] = []
    for group in zip(rewards, values, strict=True):
        scored = [(reward, value) for reward, value in zip(*group, strict=True) if reward is not None]
        means = [sum(column) / len(scored) for column in zip(*scored, strict=True)]
        columns += [(reward - means[0], value - means[1]) for reward, value in scored]
    x, y = np.array(columns).reshape(-1, 2).T
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y / norm) if norm > 1e-12 else None


@given(GROUPS)
def test_correlations_against_residuals(groups: list[list[tuple[int | None, int, int, int]]]) -> None:
    """Partial correlation is that of the least-squares residuals of centred columns."""
    rewards = [[None if row[0] is None else float(row[0]) for row in group] for group in groups]
    features = [np.array([row[1:] for row in group], dtype=np.float64) for group in groups]
    lengths = [[row[1] for row in group] for group in groups]
    plain = within_group_correlation(rewards, lengths)
    expected = pooled_correlation(rewards, lengths)
    assert plain.value == (None if expected is None else pytest.approx(expected, abs=1e-9))
    centred = []
    for group_rewards, features_N3 in zip(rewards, features, strict=True):
        columns_N4 = np.column_stack([np.array(group_rewards, dtype=np.float64), features_N3])
        columns_N4 = columns_N4[~np.isnan(columns_N4[:, 0])]
        if len(columns_N4):
            centred.append(columns_N4 - columns_N4.mean(0))
    pooled = np.concatenate(centred) if centred else np.zeros((0, 4))
    for column, found in enumerate(partial_correlations(rewards, features)):
        rest = np.delete(pooled, [0, 1 + column], axis=1)
        x, y = pooled[:, 1 + column], pooled[:, 0]
        if len(pooled):
            x, y = (
                x - rest @ np.linalg.lstsq(rest, x, rcond=1e-10)[0],
                y - rest @ np.linalg.lstsq(rest, y, rcond=1e-10)[0],
            )
        if found.value is None:
            assert min(x @ x, y @ y) < 1e-6
        else:
            assert found.value == pytest.approx(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1), abs=1e-6)
            assert found.low <= found.high


@property_test
@given(GROUPS, st.permutations(range(5)))
def test_correlations_do_not_see_order_or_units(
    groups: list[list[tuple[int | None, int, int, int]]], order: list[int]
) -> None:
    rewards = [[row[0] for row in group] for group in groups]
    lengths = [[float(row[1]) for row in group] for group in groups]
    shuffled = [
        [list(zip(r, v, strict=True))[slot] for slot in order if slot < len(r)]
        for r, v in zip(rewards, lengths, strict=True)
    ]
    one = within_group_correlation(rewards, lengths)
    two = within_group_correlation(
        [[r for r, _ in g] for g in shuffled], [[1000.0 * v + 7 for _, v in g] for g in shuffled]
    )
    for left, right in ((one.value, two.value), (one.low, two.low), (one.high, two.high)):
        assert left == (None if right is None else pytest.approx(right, abs=1e-9))


TEXT = """# Title
Plain **two words** and __more__, not 2 * 3 ** 4 or snake__case__name.

- one
  * two
3. three
-not a list
#hashtag

```python
# no header
- no item **nor bold**
```
## End"""


def test_style_features_by_hand() -> None:
    assert STYLE_FEATURES == ("length", "headers", "list_items", "bold", "code_blocks")
    assert style_features(TEXT) == (len(TEXT.split()), 2, 3, 2, 1)
    assert style_features("") == (0, 0, 0, 0, 0)
    assert style_features("~~~\n# open block") == (4, 0, 0, 0, 1)
    assert style_features("``` \n- a\n```\n- b\n```\n- c\n```") == (10, 0, 1, 0, 2)


def test_style_correlations_find_what_is_paid_for() -> None:
    """Rewards count bold words; longer answers have more of them. Only bold keeps its correlation."""
    rng = np.random.default_rng(1)
    bold_GN = rng.integers(0, 6, (40, 6))
    texts = [[" ".join(["**b**"] * k + ["word"] * int(rng.integers(0, 8))) for k in row] for row in bold_GN.tolist()]
    rewards = (bold_GN + rng.normal(0.0, 1.0, bold_GN.shape)).tolist()
    found = style_correlations(rewards, texts)
    assert found["length"].plain.low > 0.1
    assert found["length"].partial.low < 0.0 < found["length"].partial.high
    assert found["bold"].partial.low > 0.5
    assert found["headers"].plain.value is None
    assert found["headers"].partial.value is None
    assert [one.plain.value for one in style_correlations([], []).values()] == [None] * 5


# --- agreement --------------------------------------------------------------------------------------------------


def outcomes_of(*groups: Sequence[Sequence[float | None]], judges: str = "jk") -> Outcomes:
    return Outcomes(
        tuple(judges), tuple(np.array(group, dtype=np.float64).reshape(-1, len(judges)) for group in groups)
    )


def test_share_and_kappa_by_hand() -> None:
    """3 of 4 agree; by chance 1/2 * 3/4 + 1/2 * 1/4 = 1/2: kappa (3/4 - 1/2) / (1/2)."""
    found = pairwise_agreement(outcomes_of([[1, 1], [1, 1]], [[0, 0], [0, 1], [None, 1]]))["j", "k"]
    assert found.num_matches == 4
    assert found.share.value == 0.75
    assert found.kappa.value == pytest.approx(0.5)
    assert (found.share.low, found.share.high) == (0.5, 1.0)
    always = pairwise_agreement(outcomes_of([[1, 1]], [[1, 1]]))["j", "k"]
    assert always.kappa.value is None
    assert always.share == Estimate(1.0, 1.0, 1.0, 2)


def test_alpha_by_hand() -> None:
    """Of 6 verdicts 2 meet another; of 6 * 5 ordered pairs 2 * 3 * 3 would: 1 - (2 / 6) / (18 / 30)."""
    assert krippendorff_alpha(outcomes_of([[1, 1], [0, 0], [1, 0]])).value == pytest.approx(4 / 9)
    assert krippendorff_alpha(outcomes_of([[1, 1], [1, 1]])).value is None
    assert krippendorff_alpha(outcomes_of([[1, None], [0, None]])).value is None
    near, far = outcomes_of([[1, 1], [0, 0], [1, 0.5]]), outcomes_of([[1, 1], [0, 0], [1, 0]])
    assert (krippendorff_alpha(near, distance="interval").value or 0) > (krippendorff_alpha(far).value or 0)


SAID = st.lists(
    st.lists(st.lists(st.sampled_from([None, 0.0, 0.5, 1.0]), min_size=3, max_size=3), max_size=5),
    min_size=1,
    max_size=4,
)


@property_test
@given(SAID)
def test_alpha_against_evalica_and_kappa_against_frequencies(said: list[list[list[float | None]]]) -> None:
    import evalica
    import pandas as pd

    outcomes = outcomes_of(*said, judges="jkl")
    rows_MJ = np.concatenate(outcomes.by_group)
    both = rows_MJ[(~np.isnan(rows_MJ)).sum(-1) >= 2]
    for distance in ("nominal", "interval"):
        found = krippendorff_alpha(outcomes, distance=distance).value
        if len(np.unique(both[~np.isnan(both)])) < 2:
            assert found is None
        else:
            expected = evalica.alpha(pd.DataFrame(rows_MJ.T), distance=distance, solver="naive").alpha
            assert found == pytest.approx(max(-1.0, expected), abs=1e-9)
    for (one, other), agreement in pairwise_agreement(outcomes).items():
        a, b = (rows_MJ[:, "jkl".index(judge)] for judge in (one, other))
        a, b = a[~np.isnan(a) & ~np.isnan(b)], b[~np.isnan(a) & ~np.isnan(b)]
        assert agreement.num_matches == len(a)
        if not len(a):
            assert agreement.share.value is None
            continue
        chance = sum(np.mean(a == outcome) * np.mean(b == outcome) for outcome in (0.0, 0.5, 1.0))
        assert agreement.share.value == pytest.approx(np.mean(a == b))
        if chance > 1 - 1e-9:
            assert agreement.kappa.value is None
        else:
            assert agreement.kappa.value == pytest.approx((np.mean(a == b) - chance) / (1 - chance))


@property_test
@given(SAID, st.permutations([0, 1, 2]))
def test_the_order_of_judges_does_not_matter(said: list[list[list[float | None]]], order: list[int]) -> None:
    outcomes = outcomes_of(*said, judges="jkl")
    moved = Outcomes(tuple("jkl"[k] for k in order), tuple(group[:, order] for group in outcomes.by_group))
    assert krippendorff_alpha(moved).metrics("x") == pytest.approx(krippendorff_alpha(outcomes).metrics("x"))
    there, here = pairwise_agreement(moved), pairwise_agreement(outcomes)
    for (one, other), agreement in here.items():
        turned = there.get((one, other)) or there[other, one]
        assert turned.share == agreement.share
        assert turned.kappa.metrics("x") == pytest.approx(agreement.kappa.metrics("x"))


def test_outcomes_of_judges_that_share_matches() -> None:
    """mary's two orders disagree: a tie. john was asked with the seats turned, and lost one call."""

    def call(first: int, second: int, value: float | None, judge: str) -> Call:
        return Call(first, second, Verdict(value) if value is not None else Verdict(None, "timeout"), judge)

    met = Match(Pairing(0, 1), (call(0, 1, 1.0, "mary"), call(1, 0, 1.0, "mary"), call(1, 0, 0.0, "john")))
    lost = Match(Pairing(1, 2), (call(1, 2, 0.0, "mary"), call(1, 2, None, "john")))
    outcomes = judge_outcomes([GroupScore([0.0] * 3, matches=(met, lost), kind="hard"), GroupScore([], kind="hard")])
    assert outcomes.judges == ("john", "mary")
    np.testing.assert_array_equal(outcomes.by_group[0], [[1.0, 0.5], [np.nan, 0.0]])
    assert outcomes.by_group[1].shape == (0, 2)


def test_outcomes_of_an_audit() -> None:
    first = [score_of([(0, 1, 1.0), (0, 2, 0.0)], 3), CIRCLE]
    second = [score_of([(1, 0, 4.0), (1, 2, -0.5)], 3, "score"), CIRCLE]
    outcomes = audit_outcomes({"small": first, "large": second})
    np.testing.assert_array_equal(outcomes.by_group[0], [[1.0, 0.0], [0.0, np.nan], [np.nan, 0.0]])
    assert pairwise_agreement(outcomes)["small", "large"].share.value == 0.75
    with pytest.raises(ValueError):
        audit_outcomes({"small": first, "large": second[:1]})


# --- all of them ------------------------------------------------------------------------------------------------


def test_diagnose_is_flat_and_whole() -> None:
    scores = [league(4, [(0, 3)]), league(4), CIRCLE]
    texts = [["**a** b", "c", "# d", "e f g"], ["**a** b", "c d e", "d", "- e"], ["a", "b c", "d e f"]]
    metrics = diagnose(scores, texts=texts, num_tokens=[[3, 2, 5, 9], [4, 4, 2, 1], [1, 2, 3]], anchors=1)
    figures = {name for name in metrics if f"{name}_low" in metrics}
    assert figures >= {
        "tie_rate",
        "first_seat_rate",
        "failure_rate",
        "conflict_rate",
        "circular_triad_rate",
        "consistence",
        "informativeness",
        "anchor_informativeness",
        "length_correlation",
        "style_length_correlation",
        "style_bold_correlation",
        "style_headers_correlation",
        "style_list_items_correlation",
        "style_length_partial_correlation",
    }
    for name in figures:
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"], name
    assert metrics["conflict_rate"] == pytest.approx(2 / 3)
    assert metrics["circular_triad_rate"] == pytest.approx(3 / 9)
    assert (
        metrics["length_correlation"]
        == within_group_correlation([score.rewards for score in scores], [[3, 2, 5, 9], [4, 4, 2, 1], [1, 2, 3]]).value
    )
    assert not any(name.startswith("judge_") for name in metrics)  # one judge
    assert "order_flip_rate" not in metrics  # one order
    assert metrics == diagnose(scores, texts=texts, num_tokens=[[3, 2, 5, 9], [4, 4, 2, 1], [1, 2, 3]], anchors=1)


def test_diagnose_with_two_judges_and_with_nothing() -> None:
    calls = tuple(Call(0, 1, Verdict(value), judge) for judge, value in (("j", 1.0), ("k", 0.0)))
    pair = GroupScore([1.0, 0.0], matches=(Match(Pairing(0, 1), calls),), kind="hard", num_calls=2)
    metrics = diagnose([pair, pair])
    assert metrics["judge_share:j:k"] == 0.0
    assert metrics["judge_kappa:j:k"] == 0.0  # each always says one thing: chance gives the same
    assert metrics["judge_alpha"] == pytest.approx(1 - 3 * 4 / (2 * 2 * 2))
    assert diagnose([]) == {"num_calls": 0.0}
