"""Davidson, Plackett-Luce, Elo, TrueSkill and soft Condorcet: by hand and against the libraries that know them."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists, sampled_from, tuples

from rewards.aggregator_config import BradleyTerry, Davidson, Elo, PlackettLuce, SoftCondorcet, TrueSkill
from rewards.aggregators import build_aggregator, trueskill
from rewards.aggregators.davidson import outcome_shares
from rewards.aggregators.laplace import sigmoid
from rewards.aggregators.skill_games import play_pairs, rounds
from rewards.aggregators.soft_condorcet import minimise
from rewards.errors import UserError
from rewards.types import MatchLog, Ranking, Slate, Strengths
from tests.rewards.logs import log_of, match_logs

DAVIDSON = Davidson(kind="davidson")
LUCE = PlackettLuce(kind="plackett_luce")


def fit(config: object, log: MatchLog) -> Strengths:
    (one,) = build_aggregator(config).fit([log])[0]  # pyright: ignore[reportArgumentType]
    return one


def numbers(values: list[float | None] | None) -> np.ndarray:
    return np.array(values, dtype=float)


def ranked(orders: list[tuple[int, ...]], num_candidates: int) -> MatchLog:
    rankings = [
        Ranking(Slate(tuple(sorted(order)), number), order, tuple(range(len(order))), "test")
        for number, order in enumerate(orders)
    ]
    return MatchLog(num_candidates, "hard", (), rankings=tuple(rankings))


# --- Davidson


def test_davidsons_outcomes_by_hand() -> None:
    # exp(theta) = 4 and 1, exp(eta) = 1: 4 : 2 : 1.
    win_NN, tie_NN = outcome_shares(np.array([np.log(4.0), 0.0, 0.0]))
    assert win_NN[0, 1] == pytest.approx(4 / 7)
    assert tie_NN[0, 1] == pytest.approx(2 / 7)
    assert win_NN[1, 0] == pytest.approx(1 / 7)


def test_davidson_maximises_its_posterior() -> None:
    from scipy.optimize import minimize

    votes = [(0, 1, 1.0), (0, 1, 0.5), (1, 2, 0.5), (2, 0, 1.0), (0, 2, 1.0), (1, 2, 0.7)]
    log = log_of(votes, 3, "probability")

    def loss(x: np.ndarray) -> float:
        total = x[:3] @ x[:3] / (2 * 2.0**2) + x[3] ** 2 / (2 * 3.0**2)
        for i, j, y in votes:
            a, b, t = np.exp(x[i]), np.exp(x[j]), np.exp(x[3] + (x[i] + x[j]) / 2)
            p_i, p_j, p_t = a / (a + b + t), b / (a + b + t), t / (a + b + t)
            total -= np.log(p_t) if y == 0.5 else y * np.log(p_i) + (1 - y) * np.log(p_j)
        return float(total)

    best = minimize(loss, np.zeros(4), tol=1e-12)
    found = fit(DAVIDSON, log)
    assert numbers(found.strengths) == pytest.approx(best.x[:3], abs=1e-5)
    # Laplace: the inverse of a numerical Hessian at the mode.
    h, eye = 1e-4, np.eye(4)
    hessian = [
        [
            (
                loss(best.x + h * (eye[i] + eye[j]))
                - loss(best.x + h * (eye[i] - eye[j]))
                - loss(best.x - h * (eye[i] - eye[j]))
                + loss(best.x - h * (eye[i] + eye[j]))
            )
            / (4 * h * h)
            for j in range(4)
        ]
        for i in range(4)
    ]
    errors = np.sqrt(np.diagonal(np.linalg.inv(np.array(hessian))))[:3]
    assert numbers(found.stderrs) == pytest.approx(errors, rel=1e-4)


def test_davidson_learns_how_often_the_judge_ties() -> None:
    many = log_of([(0, 1, 0.5)] * 8 + [(0, 1, 1.0)] * 2, 2)
    few = log_of([(0, 1, 1.0)] * 6 + [(0, 1, 0.0)] * 4, 2)
    # The same mean outcome, 0.6, is a larger difference where wins go one way only.
    assert numbers(fit(DAVIDSON, many).strengths)[0] > 1.5 * numbers(fit(DAVIDSON, few).strengths)[0]


# --- Plackett-Luce


@settings(max_examples=30)
@given(log=match_logs("probability"))
def test_pairs_alone_are_bradley_terry(log: MatchLog) -> None:
    luce, terry = fit(LUCE, log), fit(BradleyTerry(kind="bradley_terry"), log)
    assert numbers(luce.rewards) == pytest.approx(numbers(terry.rewards), abs=1e-6, nan_ok=True)
    assert numbers(luce.stderrs or []) == pytest.approx(numbers(terry.stderrs or []), abs=1e-6, nan_ok=True)
    assert luce.reliability == (None if terry.reliability is None else pytest.approx(terry.reliability, abs=1e-6))


def test_rankings_give_choixs_estimate() -> None:
    import choix

    rng = np.random.default_rng(1)
    truth = np.array([1.0, 0.5, 0.0, -0.5, -1.0])
    orders = []
    for _ in range(60):
        shown = rng.permutation(5)[:4]
        orders.append(tuple(int(i) for i in shown[np.argsort(-(truth[shown] + rng.gumbel(size=4)))]))
    expected = choix.opt_rankings(5, orders, alpha=1.0 / (2 * 2.0**2), method="BFGS", tol=1e-10)
    found = numbers(fit(LUCE, ranked(orders, 5)).strengths)
    assert found - found.mean() == pytest.approx(expected - np.mean(expected), abs=1e-4)


def test_level_candidates_share_half_a_win() -> None:
    pair = MatchLog(2, "hard", (), rankings=(Ranking(Slate((0, 1)), (0, 1), (0, 0), "test"),))
    assert fit(LUCE, pair).stderrs == pytest.approx(fit(LUCE, log_of([(0, 1, 0.5)], 2)).stderrs)
    tail = MatchLog(3, "hard", (), rankings=(Ranking(Slate((0, 1, 2)), (0, 1, 2), (0, 1, 1), "test"),))
    found = numbers(fit(LUCE, tail).strengths)
    assert found[0] > found[1] == pytest.approx(found[2])


# --- Elo


def test_elo_by_hand_and_in_the_logs_order() -> None:
    once = Elo(kind="elo", shuffles=0)
    found = numbers(fit(once, log_of([(0, 1, 1.0), (1, 2, 0.5)], 3)).strengths)
    # 0 takes 16 points from 1; then 1, at 984, draws 2 and is paid for the expectation that it missed.
    gain = 32 * (0.5 - 1 / (1 + 10 ** (16 / 400)))
    assert found == pytest.approx([1016.0, 984.0 + gain, 1000.0 - gain])


def test_elo_agrees_with_evalica() -> None:
    import evalica

    rng = np.random.default_rng(2)
    votes = [(int(i), int(j), float(rng.choice([0.0, 0.5, 1.0]))) for i, j in permutations(range(6), 2)]
    log = log_of(votes, 6)
    rows = [(call.first, call.second, call.verdict.value) for match in log.matches for call in match.calls]
    winner = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    theirs = evalica.elo(
        [row[0] for row in rows], [row[1] for row in rows], [winner[row[2] or 0.0] for row in rows], k=32.0
    ).scores
    ours = numbers(fit(Elo(kind="elo", shuffles=0), log).strengths)
    assert ours == pytest.approx([theirs[i] for i in range(6)], abs=1e-6)


def test_shuffles_take_the_order_out() -> None:
    votes = [(0, 1, 1.0), (1, 0, 1.0)] * 20
    last_wins = numbers(fit(Elo(kind="elo", shuffles=0), log_of(votes, 2)).rewards)
    shuffled = numbers(fit(Elo(kind="elo", shuffles=200), log_of(votes, 2)).rewards)
    assert abs(shuffled[0] - 0.5) < abs(last_wins[0] - 0.5)


# --- TrueSkill


def test_one_game_is_openskills_update() -> None:
    from openskill.models import ThurstoneMostellerFull

    model = ThurstoneMostellerFull()
    ((winner,), (loser,)) = model.rate([[model.rating()], [model.rating()]])
    found = fit(TrueSkill(kind="trueskill"), log_of([(0, 1, 0.0)], 2))
    assert numbers(found.strengths) == pytest.approx([loser.mu, winner.mu])
    assert numbers(found.stderrs) == pytest.approx([loser.sigma, winner.sigma])


@settings(max_examples=30)
@given(games=lists(tuples(integers(0, 4), integers(1, 4), sampled_from([0.0, 0.5, 1.0])), max_size=60))
def test_rounds_of_games_give_what_openskill_gives_game_by_game(games: list[tuple[int, int, float]]) -> None:
    rows = [(first, (first + step) % 5, won) for first, step, won in games]
    first_L, second_L = (np.array([row[side] for row in rows], dtype=np.int64) for side in (0, 1))
    mu, sigma = 25.0, 25.0 / 3.0
    found = play_pairs(5, first_L, second_L, np.array([row[2] for row in rows]), mu=mu, sigma=sigma, beta=sigma / 2)
    expected = trueskill._play(
        5, [[(a, b)] if won == 0.5 else [(a,), (b,)] if won > 0.5 else [(b,), (a,)] for a, b, won in rows]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    played = [game for games_G in rounds(first_L, second_L) for game in games_G.tolist()]
    assert sorted(played) == list(range(len(rows)))


def test_a_one_sided_series_keeps_its_skills_finite() -> None:
    first_L = np.zeros(3000, dtype=np.int64)
    found = play_pairs(2, first_L, first_L + 1, np.ones(3000), mu=25.0, sigma=25.0 / 3.0, beta=25.0 / 6.0)
    expected = trueskill._play(2, [[(0,), (1,)]] * 3000)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_ranking_is_one_game() -> None:
    found = fit(TrueSkill(kind="trueskill"), ranked([(2, 0, 1)], 3))
    assert np.argsort(-numbers(found.strengths)).tolist() == [2, 0, 1]
    assert numbers(found.strengths)[0] == pytest.approx(25.0, abs=1.0)


def test_weights_are_refused_with_a_cure() -> None:
    log = ranked([(0, 1, 2)], 3)
    heavy = MatchLog(
        3, "hard", (), rankings=tuple(Ranking(r.slate, r.shown, r.places, "x", weight=2.0) for r in log.rankings)
    )
    with pytest.raises(UserError, match=r"weight 2; choose bradley_terry"):
        fit(TrueSkill(kind="trueskill"), heavy)


# --- soft Condorcet


@settings(max_examples=30)
@given(log=match_logs("hard"))
def test_it_stops_where_the_loss_is_flat(log: MatchLog) -> None:
    found = fit(SoftCondorcet(kind="soft_condorcet"), log)
    rows = [(c.first, c.second, c.verdict.value) for m in log.matches for c in m.calls if c.verdict.value is not None]
    met = np.flatnonzero([reward is not None for reward in found.rewards])
    if not len(met):
        return
    ratings = np.zeros(log.num_candidates)
    ratings[met] = numbers(found.strengths)[met]

    def loss(x: np.ndarray) -> float:
        upset = sum(y * sigmoid((x[j] - x[i]) / 0.5) + (1 - y) * sigmoid((x[i] - x[j]) / 0.5) for i, j, y in rows)
        return float(upset + x @ x / (2 * 3.0**2))

    slope = [(loss(ratings + h) - loss(ratings - h)) / 2e-5 for h in 1e-5 * np.eye(log.num_candidates)[met]]
    assert slope == pytest.approx(np.zeros(len(met)), abs=1e-4)


def test_an_upset_weighs_less_than_for_bradley_terry() -> None:
    votes = [(i, j, 1.0) for i, j in combinations(range(8), 2)]
    upset = [*votes, (7, 0, 1.0), (7, 0, 1.0)]
    drop = {}
    for config in (SoftCondorcet(kind="soft_condorcet"), BradleyTerry(kind="bradley_terry")):
        clean, hit = (numbers(fit(config, log_of(some, 8)).rewards) for some in (votes, upset))
        drop[config.kind] = (clean[0] - hit[0]) / (clean[0] - clean[7])
    assert drop["soft_condorcet"] < drop["bradley_terry"]


def test_one_win_by_hand() -> None:
    # r_0 = -r_1 = r with r / 9 = p (1 - p) / 0.5, p = sigmoid(-4 r).
    first, second = minimise(np.array([[0.0, 1.0], [0.0, 0.0]]), 0.5, 3.0)
    p = 1.0 / (1.0 + np.exp(4.0 * first))
    assert first / 9.0 == pytest.approx(p * (1.0 - p) / 0.5, abs=1e-6)
    assert second == pytest.approx(-first)
