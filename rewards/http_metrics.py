"""What the HTTP service tells Prometheus: its requests, and the ledger of its judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from rewards.ledger import Ledger

KNOWN_PATHS = (
    "/v1/groups/score",
    "/v1/groups/gather",
    "/v1/openrlhf",
    "/v1/compare",
    "/healthz",
    "/metrics",
    "/openapi.json",
    "/docs",
)
"""Others are counted together: a stranger's paths must not become labels."""


class ServiceMetrics:
    """A registry of its own, so that two services in one process do not meet.

    Args:
        at_work: requests at work now. gathering: those that wait for the rest of a group, or for its scores.
    """

    def __init__(self, ledger: Ledger, at_work: Callable[[], int], gathering: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "podium_requests", "Requests by path and status.", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "podium_request_seconds",
            "Time from request to answer.",
            ("path",),
            buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600),
            registry=self._registry,
        )
        Gauge("podium_requests_at_work", "Requests at work.", registry=self._registry).set_function(at_work)
        waiting = Gauge("podium_requests_gathering", "Requests that wait for their groups.", registry=self._registry)
        waiting.set_function(gathering)
        self._registry.register(_Ledger(ledger))

    def on_done(self, path: str, status: int, seconds: float) -> None:
        known = path if path in KNOWN_PATHS else "other"
        self._requests.labels(known, str(status)).inc()
        self._seconds.labels(known).observe(seconds)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)


class _Ledger(Collector):
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        who = ("purpose", "judge")
        calls = CounterMetricFamily("podium_judge_calls", "Judge calls by outcome.", labels=(*who, "outcome"))
        attempts = CounterMetricFamily("podium_judge_attempts", "Requests to judges.", labels=who)
        tokens = CounterMetricFamily("podium_judge_tokens", "Tokens of judges.", labels=(*who, "direction"))
        cost = CounterMetricFamily("podium_judge_cost", "Money for judges.", labels=who)
        seconds = CounterMetricFamily("podium_judge_seconds", "Time judges took, summed.", labels=who)
        for purpose, judges in self._ledger.accounts().items():
            for judge, account in judges.items():
                whose = (purpose, judge)
                failed = account.failures.total()
                calls.add_metric((*whose, "verdict"), account.num_asked - failed)
                calls.add_metric((*whose, "cached"), account.num_cached)
                for cause, count in account.failures.items():
                    calls.add_metric((*whose, cause), count)
                attempts.add_metric(whose, account.num_attempts)
                tokens.add_metric((*whose, "in"), account.tokens_in)
                tokens.add_metric((*whose, "out"), account.tokens_out)
                cost.add_metric(whose, account.cost)
                seconds.add_metric(whose, account.latency_s)
        yield from (calls, attempts, tokens, cost, seconds)
