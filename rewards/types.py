"""The words that cross folders: candidates, verdicts, matches, scores, and the protocols between them.

Who meets whom:

    rollouts --add--> GroupSink (the arena) --compare--> Judge --asks--> TokenScorer / Completer
                          |    ^
                 playable |    | results
                          v    |
                       Topology        then   Aggregator.fit(match logs, prior) -> strengths -> GroupScore
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

VerdictKind = Literal["hard", "probability", "score"]
"""What a judge's number means: win/tie/loss, a calibrated probability, or an uncalibrated difference."""

Orders = Literal["first", "random", "both", "both_if_close"]
"""Who is shown first. `both_if_close` begins as `random`; the first verdict decides about the second order."""

Merge = Literal["sum", "agree_else_tie"]
"""How two orders are scored (`rewards/merging.py`)."""


# --- what is ranked ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt. `text` is what a judge reads as the task; `fields` is the data row it was made from."""

    id: str
    text: str
    messages: tuple[Mapping[str, str], ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of an answer with a reward of its own; `start`, `end` are token offsets in the answer, `end` excluded."""

    id: int
    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TextSpan:
    """Where a segment stands in an answer's text: character offsets, `end` excluded. A task finds it in `parse`."""

    id: int
    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What a task read out of an answer. `malformed` is the reason it could not be read, or None.

    spans: the parts with a reward of their own, as a task finds them; they do not overlap. A malformed answer of such a
    task has one, over the whole text, with the id of the first segment. segments: the same by tokens; the pool that has
    the token ids fills them in (`rollouts/segments.py`).
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    spans: tuple[TextSpan, ...] = ()
    segments: tuple[Segment, ...] = ()
    malformed: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One rollout as the reward side sees it: text and parsed parts, no tokens, no logprobs."""

    id: str
    text: str
    num_tokens: int = 0
    parsed: ParsedAnswer = ParsedAnswer()


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """Identity of a group: a retry of the same group is another attempt."""

    group_id: str
    attempt: int = 0

    def __str__(self) -> str:
        return f"{self.group_id}#{self.attempt}"


# --- what a judge says ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judge call's outcome, seen from the candidate shown first.

    value: `hard` 1 win, 0 loss, 0.5 tie by the judge's own word; `probability` that first wins, in [0, 1];
    `score` > 0 if first is better, any scale. None exactly when `failure` names a cause: never an invented number.
    criteria: of a judge that goes through criteria, how much better first is on each, in [-1, 1].
    attempts: requests that were made for it, all of whose tokens and cost are counted; 0: it came from the cache, or a
    router spared the judge (`rewards/router.py`).
    written: requests among them that wrote criteria for the prompt; a budget counts each as a call.
    """

    value: float | None
    failure: str | None = None
    reason: str = ""
    latency_s: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    attempts: int = 1
    criteria: Mapping[str, float] = field(default_factory=dict)
    written: int = 0

    def __post_init__(self) -> None:
        if (self.value is None) != (self.failure is not None):
            raise ValueError("a verdict has a value or a failure, exactly one of the two")


ROUTER = "router:"
"""How the names of verifiers begin that decide in a judge's place (`rewards/router.py`)."""


@dataclass(frozen=True, slots=True)
class Call:
    """A verdict with its seats: candidate `first` was shown first, `second` second (indices in the group).

    weight: what the verdict counts, in plain verdicts.
    """

    first: int
    second: int
    verdict: Verdict
    judge: str
    weight: float = 1.0

    @property
    def is_routed(self) -> bool:
        """Whether a router decided, so that no judge was asked."""
        return self.judge.startswith(ROUTER)


@dataclass(frozen=True, slots=True, order=True)
class Pairing:
    """A match to be played: a < b. `round` tells repeated meetings of the same two apart."""

    a: int
    b: int
    round: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.a < self.b:
            raise ValueError(f"a pairing needs 0 <= a < b, got ({self.a}, {self.b})")


@dataclass(frozen=True, slots=True)
class Match:
    """A played pairing with every call that was made for it."""

    pairing: Pairing
    calls: tuple[Call, ...]

    def values(self, kind: VerdictKind) -> list[float]:
        """The verdicts that exist, each seen from `pairing.a`. Failed calls are absent."""
        return [value for value, _ in self._weighted(kind)]

    def outcome(self, kind: VerdictKind) -> float | None:
        """Both orders, and all judges, merged by their weighted mean, seen from `a`; None when every call failed."""
        seen = self._weighted(kind)
        total = sum(weight for _, weight in seen)
        return sum(value * weight for value, weight in seen) / total if total > 0.0 else None

    def _weighted(self, kind: VerdictKind) -> list[tuple[float, float]]:
        seen: list[tuple[float, float]] = []
        for call in self.calls:
            value = call.verdict.value
            if value is None:
                continue
            if call.first != self.pairing.a:
                value = -value if kind == "score" else 1.0 - value
            seen.append((value, call.weight))
        return seen

    def result(self, kind: VerdictKind) -> float | None:
        """Who won, as a topology needs it: 1 a, 0 b, 0.5 level, None missing."""
        outcome = self.outcome(kind)
        if outcome is None:
            return None
        level = 0.0 if kind == "score" else 0.5
        return 1.0 if outcome > level else 0.0 if outcome < level else 0.5


@dataclass(frozen=True, slots=True, order=True)
class Slate:
    """Candidates that one judge call ranks: two or more slots, ascending. `round` tells repeated slates apart."""

    members: tuple[int, ...]
    round: int = 0

    def __post_init__(self) -> None:
        ascending = all(low < high for low, high in zip(self.members, self.members[1:], strict=False))
        if len(self.members) < 2 or self.members[0] < 0 or not ascending:
            raise ValueError(f"a slate has two or more slots in ascending order, got {self.members}")


@dataclass(frozen=True, slots=True)
class Ranking:
    """One judge call that ranked a slate; the K-wise sibling of `Call`.

    shown: the slate's slots in the order they were shown. places: place of each of `shown`, 0 for the best; ties share
    the lowest place, by the judge's own word only. None exactly when `failure` names a cause.
    weight: what the call counts, in plain calls. attempts: as in `Verdict`.
    """

    slate: Slate
    shown: tuple[int, ...]
    places: tuple[int, ...] | None
    judge: str
    failure: str | None = None
    reason: str = ""
    weight: float = 1.0
    latency_s: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    attempts: int = 1

    def __post_init__(self) -> None:
        if tuple(sorted(self.shown)) != self.slate.members:
            raise ValueError(f"a ranking shows its slate's slots, got {self.shown} for {self.slate.members}")
        if (self.places is None) != (self.failure is not None):
            raise ValueError("a ranking has places or a failure, exactly one of the two")
        if self.places is not None and len(self.places) != len(self.shown):
            raise ValueError(f"a ranking of {len(self.shown)} has as many places, got {self.places}")

    def tiers(self) -> tuple[tuple[int, ...], ...]:
        """Slots from best to worst, level ones together; empty when the call failed."""
        if self.places is None:
            return ()
        return tuple(
            tuple(sorted(slot for slot, place in zip(self.shown, self.places, strict=True) if place == level))
            for level in sorted(set(self.places))
        )


@dataclass(frozen=True, slots=True)
class Places:
    """What a judge says of a slate: the place of each candidate in the order shown, 0 for the best.

    A place is the number of candidates that are better, so level ones share the lowest: (0, 1, 1, 3).
    """

    places: tuple[int, ...]
    reason: str = ""
    latency_s: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0

    def __post_init__(self) -> None:
        ordered = sorted(self.places)
        if any(place != ordered.index(place) for place in self.places):
            raise ValueError(f"a place is the number of candidates that are better, got {self.places}")


@dataclass(frozen=True, slots=True)
class MatchLog:
    """All matches of one group. `num_candidates` counts the rollouts that took part in the tournament.

    symmetric: the judge cannot depend on the order, so no first-seat bias is looked for.
    rankings: calls that ranked a slate (topology `k_wise`); such a log has no matches, and its kind is `hard`: places
    say who is better, not by how much.
    merge: how two orders of a match are scored; `matches` hold what was said.
    """

    num_candidates: int
    kind: VerdictKind
    matches: tuple[Match, ...]
    symmetric: bool = False
    rankings: tuple[Ranking, ...] = ()
    merge: Merge = "sum"


# --- what comes out ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Strengths:
    """An aggregator's reading of one match log. Lists have one entry per candidate; None = unscored.

    rewards: raw, higher is better. strengths and stderrs: on the model's own scale, where it has one.
    reliability: share of the rewards' variance that is signal, in [0, 1]; None if the aggregator has no noise model.
    circular_triad_rate: of the triples with three decided pairs, those that go round; None where there is no triple.
    feedback_weight: share of the verdicts' weight that the order contradicts, from aggregators that minimise it.
    """

    rewards: list[float | None]
    reliability: float | None = None
    strengths: list[float | None] | None = None
    stderrs: list[float | None] | None = None
    circular_triad_rate: float | None = None
    feedback_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """What a scorer says of one rollout.

    reward: of the rollout as a whole, for objectives without segments. segments: a reward per segment by name; None,
    or a name that is missing: that segment is unscored. figures: numbers to be logged; nothing is learned from them.
    criteria: rewards of the rollout by name, for `rl.objective.criteria`; likewise.
    """

    reward: float
    segments: Mapping[str, float | None] = field(default_factory=dict)
    figures: Mapping[str, float | None] = field(default_factory=dict)
    criteria: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Audit:
    """What a second judge said of some of a group's pairs (`rewards/audit.py`). Nothing of it enters a reward.

    kind: what its numbers mean. num_unasked: pairs that were drawn and not asked, because the budget was spent or the
    second judge down.
    """

    kind: VerdictKind
    matches: tuple[Match, ...] = ()
    num_unasked: int = 0

    @property
    def num_calls(self) -> int:
        return sum(len(match.calls) for match in self.matches)


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """A verdict on a pair whose better answer is known: 1 right, 0.5 a tie, 0 wrong; None: the call failed."""

    judge: str
    result: float | None


@dataclass(frozen=True, slots=True)
class GroupScore:
    """What the reward side says of one group. Lists have one entry per rollout slot; None = unscored.

    baseline_ids tells who shares a baseline (default: the whole group, id 0). segment_rewards maps a segment's name to
    its rewards, figures a number's name to its values, which are logged and never learned from. per_criterion maps a
    criterion to the win rates on it of those that played, or to a scorer's rewards, gates applied. gate_failures maps a
    gate's name to the slots it failed, gate_scores a soft gate's to what it said of each slot (None: not asked);
    gate_factors are what soft gates came to, and are in the rewards already (empty: there are none).
    num_calls counts judge calls asked (a ranking is one), num_failed those that ended without a verdict, failures
    counts them by cause; num_cached of the calls were answered from the cache. audit and known_answers tell of the
    judge, not of the group, and their calls are in none of these counts.
    """

    rewards: list[float | None]
    reliability: float | None = None
    segment_rewards: Mapping[str, list[float | None]] = field(default_factory=dict)
    baseline_ids: list[int] = field(default_factory=list)
    matches: tuple[Match, ...] = ()
    kind: VerdictKind | None = None
    strengths: list[float | None] | None = None
    stderrs: list[float | None] | None = None
    per_criterion: Mapping[str, list[float | None]] = field(default_factory=dict)
    figures: Mapping[str, list[float | None]] = field(default_factory=dict)
    gate_failures: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    gate_scores: Mapping[str, list[float | None]] = field(default_factory=dict)
    gate_factors: list[float | None] = field(default_factory=list)
    num_calls: int = 0
    num_failed: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    rankings: tuple[Ranking, ...] = ()
    num_cached: int = 0
    audit: Audit | None = None
    known_answers: tuple[KnownAnswer, ...] = ()

    @property
    def num_calls_about_judge(self) -> int:
        """Calls of the audit, and about known pairs."""
        return (0 if self.audit is None else self.audit.num_calls) + len(self.known_answers)

    @property
    def num_scored(self) -> int:
        return sum(reward is not None for reward in self.rewards)


# --- the seams --------------------------------------------------------------------------------------------------


@runtime_checkable
class Judge(Protocol):
    """Compares two candidates. Raises JudgeFailure when it has no verdict; counts no wins, retries nothing."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> VerdictKind: ...
    @property
    def symmetric(self) -> bool:
        """True if the verdict cannot depend on the order; such a judge is asked once per match."""
        ...

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict: ...
    async def close(self) -> None: ...


@runtime_checkable
class Acquainted(Protocol):
    """A judge that wants to see some of a group before it compares any two of it. It is asked again for every group."""

    async def wants_members(self, prompt: Prompt) -> bool: ...
    def meet(self, prompt: Prompt, members: Sequence[Candidate]) -> None:
        """Members of one group, at most three: the best, the middle one and the worst by what is known before."""
        ...


@runtime_checkable
class Voting(Protocol):
    """A judge that sends several requests at once for one call."""

    @property
    def requests_per_call(self) -> int: ...


def requests_per_call(judge: object) -> int:
    """Of a judge that does not say it: one."""
    return judge.requests_per_call if isinstance(judge, Voting) else 1


@runtime_checkable
class ListJudge(Protocol):
    """Ranks several candidates in one call. Raises JudgeFailure when it has no ranking; retries nothing.

    A judge may be both: evaluation compares pairs, whatever the topology of training.
    """

    @property
    def name(self) -> str: ...
    @property
    def symmetric(self) -> bool:
        """True if the places cannot depend on the order shown; such a judge is asked once per slate."""
        ...

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TournamentState:
    """All that a topology may look at.

    arrived: candidates that may play now. closed: nobody else will arrive (slots not in `arrived` never do).
    results: pairing -> 1 a won, 0 b won, 0.5 level, None played without a verdict. Pairings in flight are not in it.
    prior_scores: what a cheap scorer says of a candidate before any match, higher is better; may be empty.
    rankings: slate -> tiers from best to worst, its orders merged; empty if played without a ranking. Not in flight.
    """

    num_candidates: int
    arrived: frozenset[int]
    closed: bool
    results: Mapping[Pairing, float | None]
    seed: int = 0
    prior_scores: Mapping[int, float] = field(default_factory=dict)
    rankings: Mapping[Slate, tuple[tuple[int, ...], ...]] = field(default_factory=dict)


class Topology(Protocol):
    """Who meets whom: a pure function of the state, so that it can be asked again after every verdict."""

    def playable(self, state: TournamentState) -> list[Pairing]:
        """Pairings without a result that can be played now, in order of preference. The arena skips those in flight."""
        ...

    def max_matches(self, num_candidates: int) -> int:
        """Upper bound on matches for a group of this size; exact where the format fixes it."""
        ...


@runtime_checkable
class BatchTopology(Topology, Protocol):
    """A topology whose later rounds are planned over the whole batch, so that groups can hand calls to each other.

    `playable` is the opening, group by group while rollouts arrive. Once every group of the batch is complete and idle,
    `next_round` is asked for one more round until it names no pairing.
    """

    def next_round(
        self,
        states: Sequence[TournamentState],
        logs: Sequence[MatchLog],
        *,
        calls_per_match: int,
        calls_left: int | None,
    ) -> list[list[Pairing]]:
        """Pairings to play now, one list per group, of at most `calls_left` calls together (None: no other limit)."""
        ...


@runtime_checkable
class SlateTopology(Protocol):
    """Who is ranked together: what `Topology` is to matches, for judges that rank several candidates in one call."""

    @property
    def slate_size(self) -> int:
        """Most candidates in one call."""
        ...

    def playable(self, state: TournamentState) -> list[Slate]:
        """Slates without a ranking that can be played now, in order of preference. The arena skips those in flight."""
        ...

    def max_matches(self, num_candidates: int) -> int:
        """Upper bound on slates for a group of this size; a slate is one call, or two with both orders."""
        ...


CallHandler = Callable[[GroupKey, Call | Ranking], None]
"""Told of every finished judge call."""

Prior = Mapping[str, Any]
"""An aggregator's memory between batches: plain JSON values, stored in checkpoints."""


class Aggregator(Protocol):
    """Match logs of a batch of groups to strengths; pure. `prior=None` means the documented default."""

    def fit(self, logs: Sequence[MatchLog], prior: Prior | None = None) -> tuple[list[Strengths], Prior]: ...


class Gate(Protocol):
    """A cheap check before any judge: the reason the candidate fails, or None if it passes. One that waits is async."""

    @property
    def name(self) -> str: ...
    def check(self, prompt: Prompt, candidate: Candidate) -> str | Awaitable[str | None] | None: ...


@runtime_checkable
class SoftGate(Protocol):
    """A check that vetoes nobody: its score in [0, 1] enters a factor on the reward. One that waits is async."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...
    def score(self, prompt: Prompt, candidate: Candidate) -> float | Awaitable[float]: ...


AnyGate = Gate | SoftGate


@runtime_checkable
class GroupSink(Protocol):
    """Rollouts are pushed in as they finish, so judging starts while others still generate."""

    async def open(self, key: GroupKey, prompt: Prompt, num_candidates: int) -> None: ...
    async def add(self, key: GroupKey, index: int, candidate: Candidate) -> None: ...
    async def close(self, key: GroupKey) -> None:
        """No further candidate of this group will arrive."""
        ...

    async def scores(self) -> dict[GroupKey, GroupScore]:
        """Waits for every open group, aggregates them as one batch, forgets them."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a message. Data spans are never read as markup: control tokens in them stay plain text."""

    text: str
    is_data: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True, slots=True)
class ChoiceScores:
    """Log-probabilities of the choices at the next token (natural log), and the prompt tokens that were read."""

    logprobs: tuple[float, ...]
    tokens_in: int = 0


class TokenScorer(Protocol):
    """A causal model that can say how likely each of a few one-token continuations is."""

    async def choice_logprobs(
        self, messages: Sequence[Message], prefill: str, choices: Sequence[str]
    ) -> ChoiceScores: ...


class StatePooler(Protocol):
    """A causal model in an engine that says what it makes of a finished exchange: the state of its last token."""

    async def last_state(self, messages: Sequence[Message]) -> Sequence[float]:
        """Of the last layer, normalised as the model does it, one number per hidden unit. Raises JudgeFailure for an
        exchange that is longer than the model may read."""
        ...


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer. is_cut: it ran into its limit of tokens. cost: money, as the endpoint's prices say."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    is_cut: bool = False


class Completer(Protocol):
    """A model that answers in text. Raises JudgeFailure when there is no answer; retries nothing."""

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int = 0,
        max_tokens: int | None = None,
        temperature: float | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        """None for `max_tokens` or `temperature`: the completer's own. schema: JSON Schema of the answer, as far as the
        model can be held to one."""
        ...

    async def close(self) -> None: ...
