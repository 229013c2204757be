"""The ledger: sums by judge and cause, quantiles within a bucket, nothing lost on the way through JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rewards.ledger import Account, Ledger, spending
from rewards.types import Call, GroupScore, Match, Pairing, Ranking, Slate, Verdict


def call(judge: str = "a", **fields: object) -> Call:
    verdict = Verdict(**{"value": 1.0, **fields})  # type: ignore[arg-type]
    return Call(0, 1, verdict, judge)


CALLS = [
    call(tokens_in=100, tokens_out=5, cost=0.02, latency_s=0.5, attempts=1),
    call(tokens_in=200, tokens_out=10, cost=0.04, latency_s=1.5, attempts=3),
    call(value=None, failure="timeout", latency_s=60.0, attempts=4),
    call(attempts=0),
    call("b", value=None, failure="bad_reply", tokens_in=50, cost=0.01, latency_s=0.1),
]


def ledger() -> Ledger:
    kept = Ledger()
    for one in CALLS:
        kept.record("training", one)
    kept.record("heldout", Ranking(Slate((0, 1)), (1, 0), (0, 1), "a", tokens_in=9, latency_s=2.0))
    return kept


def test_sums_by_judge_and_cause() -> None:
    summary = ledger().summary()
    a, b = summary["training"]["a"], summary["training"]["b"]
    assert (a["num_calls"], a["num_cached"], a["num_attempts"]) == (4, 1, 8)
    assert (a["tokens_in"], a["tokens_out"], a["cost"]) == (300, 15, pytest.approx(0.06))
    assert a["latency_mean_s"] == pytest.approx(62.0 / 3)
    assert (a["failures"], b["failures"]) == ({"timeout": 1}, {"bad_reply": 1})
    assert (b["tokens_in"], b["cost"]) == (50, 0.01)
    assert summary["heldout"]["a"]["tokens_in"] == 9
    assert ledger().total().num_asked == 5
    assert ledger().total("training").tokens == 365


def test_a_resumed_ledger_goes_on_where_it_was() -> None:
    again = Ledger.from_json(json.loads(json.dumps(ledger().to_json())))
    assert again.to_json() == ledger().to_json()
    again.record("training", CALLS[0])
    assert again.total("training").num_calls == 6


def test_quantiles_are_within_a_bucket_of_the_true_ones() -> None:
    latencies = np.random.default_rng(3).lognormal(-1.0, 1.0, 5000)
    account = Account()
    for latency_s in latencies:
        account.record(call(latency_s=float(latency_s)))
    for share in (0.5, 0.95):
        assert account.latency_quantile_s(share) == pytest.approx(np.quantile(latencies, share), rel=0.03)
    assert Account().latency_quantile_s(0.5) is None
    assert "latency_p50_s" not in Account().figures()


def test_metrics_of_a_batch_name_the_judges_where_there_are_several() -> None:
    matches = tuple(Match(Pairing(0, 1, number), (one,)) for number, one in enumerate(CALLS))
    metrics = spending([GroupScore([None, None], matches=matches)])
    assert metrics["tokens_in"] == 350
    assert metrics["a/tokens_in"] == 300
    assert metrics["b/num_calls"] == 1
    assert "a/tokens_in" not in spending([GroupScore([None, None], matches=matches[:3])])
    assert spending([]) == {}
