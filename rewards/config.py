"""The `rewards` section of a recipe: judge, topology, aggregator, orders, gates, limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.strict import StrictModel

ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
"""`package.module:name`."""


# --- judges -----------------------------------------------------------------------------------------------------


class EmbeddingJudge(StrictModel):
    """The answer whose sentence embedding is closer to the reference text wins. Symmetric; verdicts are scores."""

    kind: Literal["embedding"]
    model: str
    """Directory, or `package:NAME` for a model that a Python package ships."""
    reference_field: str | None = None
    """Prompt field to be close to; default: the prompt's text."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 256
    """Longer texts are cut to this many tokens of the embedding model."""
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 32


class LikelihoodJudge(StrictModel):
    """The answer that makes a causal model find the reference text more likely wins. Symmetric; verdicts are scores."""

    kind: Literal["likelihood"]
    model: str
    """Directory, or `package:NAME` for a model that a Python package ships. Runs on CPU, in the driver."""
    reference_field: str | None = None
    """Prompt field that is to become likely; default: the prompt's text."""
    hint: Annotated[str, Field(pattern=r"\{answer\}")] = "Summary: {answer}\n\nText: "
    """What the model reads before the reference."""
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 128
    """Tokens of the reference that are scored, from its start."""


class VerdictTokensJudge(StrictModel):
    """A causal model reads prompt, criteria and both answers; its logit difference of two verdict tokens is a score."""

    kind: Literal["verdict_tokens"]
    model: str
    """Directory, or `package:NAME`. Runs in a vLLM engine of its own."""
    criteria: str = "Which answer is better?"
    template: str = "verdict_tokens"
    """Name of a prompt template in `rewards/templates/`, or the path of one."""
    choices: tuple[str, str] = ("A", "B")
    """One-token verdicts: the first means that the answer shown first is better."""
    max_model_len: Annotated[int, Field(ge=64, le=1_048_576)] = 2048
    kv_cache_gib: Annotated[float, Field(gt=0, le=4096)] = 1.0


class PythonJudge(StrictModel):
    """Your own function `(prompt, first, second) -> float | None`, sync or async, or a class with `compare`."""

    kind: Literal["python"]
    target: ImportPath
    verdict: Literal["hard", "probability", "score"] = "probability"
    symmetric: bool = False


JudgeConfig = Annotated[
    EmbeddingJudge | LikelihoodJudge | VerdictTokensJudge | PythonJudge, Field(discriminator="kind")
]


# --- topologies -------------------------------------------------------------------------------------------------


class RoundRobin(StrictModel):
    """Everyone meets everyone: N(N-1)/2 matches."""

    kind: Literal["round_robin"] = "round_robin"


class SingleElimination(StrictModel):
    """A knockout bracket with real byes, N-1 matches; `seeding: anchor` first plays everyone against one (N-1 more)."""

    kind: Literal["single_elimination"]
    seeding: Literal["random", "anchor"] = "anchor"


TopologyConfig = Annotated[RoundRobin | SingleElimination, Field(discriminator="kind")]


# --- aggregators ------------------------------------------------------------------------------------------------


class WinRate(StrictModel):
    """Mean outcome over the matches that have a verdict (Pref-GRPO, arXiv 2508.20751)."""

    kind: Literal["win_rate"]


class RankQuantile(StrictModel):
    """Rank of the win rate mapped to [0, 1], ties share the mean rank (ArenaRL, arXiv 2601.06487)."""

    kind: Literal["rank_quantile"]


class EmpiricalBayes(StrictModel):
    """Posterior win probabilities under a prior whose scale is learned from the batch (ours)."""

    kind: Literal["empirical_bayes"] = "empirical_bayes"
    scales: tuple[Annotated[float, Field(gt=0, le=100)], ...] = (0.05, 0.3, 0.7, 1.2, 2.0, 3.0)
    """Grid of prior standard deviations of a group's strengths."""
    prior_decay: Annotated[float, Field(ge=0, le=1)] = 0.9
    """How much of the mixture weights' evidence is carried from one step to the next."""


AggregatorConfig = Annotated[WinRate | RankQuantile | EmpiricalBayes, Field(discriminator="kind")]


# --- gates ------------------------------------------------------------------------------------------------------


class LengthGate(StrictModel):
    """Fails answers outside [min_words, max_words]; optionally also those that do not end in one of `endings`."""

    kind: Literal["length"]
    min_words: Annotated[int, Field(ge=0)] = 1
    max_words: Annotated[int, Field(ge=1)] = 1_000_000
    endings: tuple[str, ...] = ()


class CopyRatioGate(StrictModel):
    """Fails answers of whose word n-grams at least `max_ratio` stand in the prompt (or in one of its fields)."""

    kind: Literal["copy_ratio"]
    ngram: Annotated[int, Field(ge=1, le=20)] = 5
    max_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    field: str | None = None


GateConfig = Annotated[LengthGate | CopyRatioGate, Field(discriminator="kind")]


# --- the section ------------------------------------------------------------------------------------------------


class CallLimits(StrictModel):
    """How judge calls are made."""

    max_concurrency: Annotated[int, Field(ge=1, le=65536)] = 64
    timeout_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    """Deadline of one call, retries not included."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 4
    backoff_s: Annotated[float, Field(ge=0, le=600)] = 0.5
    """First wait between attempts; doubles each time, with seeded jitter."""


class TournamentRewards(StrictModel):
    """Rewards from matches inside the group."""

    kind: Literal["tournament"] = "tournament"
    judge: JudgeConfig
    topology: TopologyConfig = RoundRobin()
    aggregator: AggregatorConfig = EmpiricalBayes()
    orders: Literal["first", "random", "both"] = "both"
    """`first`: the lower index is shown first; `random`: seeded coin per match; `both`: two calls per match."""
    gates: tuple[GateConfig, ...] = ()
    calls: CallLimits = CallLimits()
    min_verdicts: Annotated[int, Field(ge=1)] = 1
    """A rollout with fewer verdicts is unscored."""
    max_calls_per_step: Annotated[int, Field(ge=1)] | None = None
    """Refuses a recipe whose upper bound of judge calls per step is above this."""


class ScorerRewards(StrictModel):
    """Rewards from one function per rollout: `(prompt, candidate) -> float`."""

    kind: Literal["scorer"]
    target: ImportPath
    gates: tuple[GateConfig, ...] = ()


RewardsConfig = Annotated[TournamentRewards | ScorerRewards, Field(discriminator="kind")]
