"""What judging cost: calls, tokens, money and latency, by judge and by cause of failure. Pure; JSON in and out.

Call / Ranking --record--> Account of its judge, by what it was asked for (training, heldout, ...) --> metrics, totals

Latencies are kept as counts on a logarithmic scale, 5 % a bucket: quantiles of any number of calls in a few hundred
integers, that add up over steps, judges and resumes. A verdict from the cache is counted and costs nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewards.types import Call, GroupScore, Ranking, Verdict

_BUCKETS_PER_E = 1.0 / math.log(1.05)
_LEAST_S = 1e-6


@dataclass(slots=True)
class Account:
    """One judge's. Calls are verdicts asked for, `num_cached` of them answered from the cache.

    num_attempts: attempts that were made, retries included. num_written: requests beside them, that wrote criteria.
    failures: calls without a verdict, by cause.
    cost: in the currency of the recipe's prices. latency_s: sum over calls that asked.
    """

    num_calls: int = 0
    num_cached: int = 0
    num_attempts: int = 0
    num_written: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    latency_s: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)

    @property
    def num_asked(self) -> int:
        """Calls that reached the judge."""
        return self.num_calls - self.num_cached

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    def record(self, call: Call | Ranking) -> None:
        said = call.verdict if isinstance(call, Call) else call
        self.num_calls += 1
        if said.attempts == 0:
            self.num_cached += 1
            return
        self.num_attempts += said.attempts
        self.num_written += said.written if isinstance(said, Verdict) else 0
        self.tokens_in += said.tokens_in
        self.tokens_out += said.tokens_out
        self.cost += said.cost
        if said.failure is not None:
            self.failures[said.failure] += 1
        self.latency_s += said.latency_s
        self.latencies[round(math.log(max(said.latency_s, _LEAST_S)) * _BUCKETS_PER_E)] += 1

    def add(self, other: Account) -> None:
        self.num_calls += other.num_calls
        self.num_cached += other.num_cached
        self.num_attempts += other.num_attempts
        self.num_written += other.num_written
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        self.cost += other.cost
        self.latency_s += other.latency_s
        self.failures.update(other.failures)
        self.latencies.update(other.latencies)

    def latency_quantile_s(self, share: float) -> float | None:
        """The latency that `share` of the calls that asked stay under, within 2.5 %; None without any."""
        wanted = share * self.latencies.total()
        seen = 0
        for bucket in sorted(self.latencies):
            seen += self.latencies[bucket]
            if seen >= wanted:
                return math.exp(bucket / _BUCKETS_PER_E)
        return None

    def figures(self) -> dict[str, float]:
        """Plain numbers for metrics; latencies only where somebody was asked."""
        figures: dict[str, float] = {
            "num_cached": float(self.num_cached),
            "num_attempts": float(self.num_attempts),
            "tokens_in": float(self.tokens_in),
            "tokens_out": float(self.tokens_out),
            "cost": self.cost,
        }
        p50, p95 = self.latency_quantile_s(0.5), self.latency_quantile_s(0.95)
        if p50 is not None and p95 is not None:
            figures |= {"latency_mean_s": self.latency_s / self.num_asked, "latency_p50_s": p50, "latency_p95_s": p95}
        return figures

    def to_json(self) -> dict[str, Any]:
        return {
            "num_calls": self.num_calls,
            "num_cached": self.num_cached,
            "num_attempts": self.num_attempts,
            "num_written": self.num_written,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "cost": self.cost,
            "latency_s": self.latency_s,
            "failures": dict(self.failures),
            "latencies": {str(bucket): count for bucket, count in sorted(self.latencies.items())},
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Account:
        latencies = Counter({int(bucket): count for bucket, count in saved["latencies"].items()})
        return cls(**{**saved, "failures": Counter(saved["failures"]), "latencies": latencies})


class Ledger:
    """Accounts by purpose and judge."""

    def __init__(self) -> None:
        self._accounts: dict[str, dict[str, Account]] = {}

    def record(self, purpose: str, call: Call | Ranking) -> None:
        judges = self._accounts.setdefault(purpose, {})
        judges.setdefault(call.judge, Account()).record(call)

    def total(self, purpose: str | None = None) -> Account:
        """Of all judges; None: for everything."""
        total = Account()
        for name, judges in self._accounts.items():
            if purpose in (None, name):
                for account in judges.values():
                    total.add(account)
        return total

    def accounts(self) -> dict[str, dict[str, Account]]:
        return {purpose: dict(judges) for purpose, judges in self._accounts.items()}

    def summary(self) -> dict[str, Any]:
        """Totals for people: by purpose and judge, figures and failures by cause."""
        return {
            purpose: {
                judge: {"num_calls": account.num_calls, **account.figures(), "failures": dict(account.failures)}
                for judge, account in judges.items()
            }
            for purpose, judges in self._accounts.items()
        }

    def to_json(self) -> dict[str, Any]:
        return {
            purpose: {judge: account.to_json() for judge, account in judges.items()}
            for purpose, judges in self._accounts.items()
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Ledger:
        ledger = cls()
        for purpose, judges in saved.items():
            ledger._accounts[purpose] = {name: Account.from_json(account) for name, account in judges.items()}
        return ledger


def spending(scores: Iterable[GroupScore]) -> dict[str, float]:
    """Metrics of a batch's match logs: `Account.figures` of all judges, and `<judge>/<figure>` where there are more."""
    ledger = Ledger()
    for score in scores:
        asked = (call for match in score.matches for call in match.calls if not call.is_routed)
        for call in (*asked, *score.rankings):
            ledger.record("batch", call)
    judges = ledger.accounts().get("batch", {})
    figures = ledger.total().figures() if judges else {}
    if len(judges) > 1:
        for name, account in judges.items():
            own = {"num_calls": float(account.num_calls), **account.figures()}
            figures |= {f"{name}/{figure}": value for figure, value in own.items()}
    return figures
