"""`rewards.judge` in a recipe: who compares two answers."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeGuard

from pydantic import Field, model_validator

from rewards.program_config import Program
from rewards.rubric_config import TYPE_WEIGHTS, RubricJudge
from rewards.strict import ImportPath, StrictModel
from rewards.types import VerdictKind
from rewards.voting_config import VotingJudge


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
    """A causal model reads prompt, criteria and both answers; its logit difference of two verdict tokens is a score.

    `verdict: probability` reads the difference as the logit of a probability, sigmoid(difference / temperature), and
    that is a claim: of the verdicts at 0.8, four in five are right. A model's own difference seldom is calibrated. The
    temperature that makes it so is the one that makes known outcomes likeliest; without it leave the verdict a score.
    """

    kind: Literal["verdict_tokens"]
    model: str
    """Directory, or `package:NAME`. Runs in a vLLM engine of its own."""
    criteria: str = "Which answer is better?"
    template: str = "verdict_tokens"
    """Name of a prompt template in `rewards/templates/`, or the path of one."""
    choices: tuple[str, str] = ("A", "B")
    """One-token verdicts: the first means that the answer shown first is better."""
    list_template: str = "verdict_tokens_list"
    """The same for several answers in one call (topology k_wise); its paragraph with {answer} is repeated."""
    labels: Annotated[tuple[str, ...], Field(min_length=2, max_length=16)] = tuple("ABCDEFGHIJKLMNOP")
    """One-token names of the answers of such a call, in the order shown."""
    max_model_len: Annotated[int, Field(ge=64, le=1_048_576)] = 2048
    kv_cache_gib: Annotated[float, Field(gt=0, le=4096)] = 1.0
    verdict: Literal["score", "probability"] = "score"
    temperature: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Of `verdict: probability`, fitted on answers whose better one is known; above 1 makes the judge less sure."""

    @model_validator(mode="after")
    def _a_probability_is_calibrated(self) -> Self:
        if (self.verdict == "probability") != (self.temperature is not None):
            raise ValueError(
                "temperature: state it with `verdict: probability`, and only there; 1.0 takes the model's own word"
            )
        return self


class PythonJudge(StrictModel):
    """Your own function `(prompt, first, second) -> float | None`, sync or async, or a class with `compare`. Instead of
    a number it may give a `rewards.types.Verdict`, with its word on each criterion for `rl.objective.criteria`.

    `ranks: true` says that the class also has `rank(prompt, candidates)`: a place per candidate, how many are better
    (0 for the best, level ones share the lowest: `[1, 0, 1]`), or None. Topology k_wise needs it.
    """

    kind: Literal["python"]
    target: ImportPath
    verdict: Literal["hard", "probability", "score"] = "probability"
    symmetric: bool = False
    ranks: bool = False
    """The class has a method `rank` for several answers at once."""
    version: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Its verdicts may be kept under this name (`rewards.cache`): write another whenever the code changes."""


class ChatJudge(VotingJudge):
    """A model behind an OpenAI-compatible endpoint reads prompt, criteria and answers, reasons, and gives a verdict."""

    kind: Literal["chat"]
    reply: Literal["winner", "probability", "scores"] = "winner"
    """What it is asked for. winner: one of the two, or tie, a hard verdict. probability: that the answer shown first
    is better, by the model's own word. scores: a number for each; their difference is a score."""
    criteria: str = "Which answer is better?"
    template: str | None = None
    """Name of a prompt template in `rewards/templates/`, or the path of one; default: `chat_` and `reply`."""
    list_template: str = "chat_list"
    """The same for several answers in one call (topology k_wise); its paragraph with {answer} is repeated."""

    @property
    def verdict(self) -> VerdictKind:
        one_vote: dict[str, VerdictKind] = {"winner": "hard", "probability": "probability", "scores": "score"}
        return self.merged_kind(one_vote[self.reply])


class RewardModelJudge(StrictModel):
    """A reward model reads prompt and answer, each answer once. Symmetric; verdicts are scores."""

    kind: Literal["reward_model"]
    model: str
    """Directory, or `package:NAME`, with a chat template."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """Where it runs. transformers: on CPU, in the driver. vllm: in an engine of its own that pools, on a GPU where the
    run has them; causal models only."""
    kv_cache_gib: Annotated[float, Field(gt=0, le=4096)] = 1.0
    """Of `engine: vllm` on CPU."""
    head: Literal["scalar", "preference_embedding"] = "scalar"
    """scalar: a sequence classifier with one output (Bradley-Terry). preference_embedding: a general preference model
    (GPM), whose preferences may go round in circles."""
    max_tokens: Annotated[int, Field(ge=8, le=1_048_576)] = 2048
    """Prompt and answer together, in tokens of the reward model; what is longer gets no verdict."""


class ProgramJudge(StrictModel):
    """A measure without a model: the answer that measures higher wins. Symmetric."""

    kind: Literal["program"]
    by: Program
    verdict: Literal["hard", "score"] = "hard"
    """hard: who measures higher, equal measures tie. score: the difference of the measures."""


SingleJudge = Annotated[
    EmbeddingJudge
    | LikelihoodJudge
    | VerdictTokensJudge
    | PythonJudge
    | ChatJudge
    | RubricJudge
    | RewardModelJudge
    | ProgramJudge,
    Field(discriminator="kind"),
]


class PanelMember(StrictModel):
    judge: SingleJudge
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:/-]{0,63}$")] | None = None
    """How the match log calls it; default: the judge's own name. Names of a panel differ."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """What its verdicts count, in plain verdicts."""


class Reputation(StrictModel):
    """Members' weights follow from how often they are right (ours, after Fortytwo, arXiv 2510.24801).

    Right is a verdict on a pair that agrees with what the others together say of it, or with the known answer of a pair
    of `rewards.calibration`. r = right / all, decayed; the weight is multiplied by 2 r - 1, which is 0 for a coin, at
    least `floor`; the panel's total weight stays what the recipe says.
    """

    decay: Annotated[float, Field(ge=0, le=1)] = 0.95
    """What earlier steps count, per step."""
    floor: Annotated[float, Field(gt=0, le=1)] = 0.1
    prior_verdicts: Annotated[float, Field(gt=0)] = 20.0
    """Every member starts as if so many of its verdicts were known, all of them right."""


class PanelJudge(StrictModel):
    """Several judges: each is asked about every match, and each verdict counts by its judge's weight.

    All members give hard verdicts or probabilities (a hard one among them is a probability of 0, 0.5 or 1). Scores of
    two judges have no common unit: a member that gives scores counts by their sign, as a hard verdict.
    """

    kind: Literal["panel"]
    members: Annotated[tuple[PanelMember, ...], Field(min_length=2, max_length=16)]
    reputation: Reputation | None = None
    """None: weights stay as they are."""

    @property
    def names(self) -> tuple[str, ...]:
        """How the match log calls the members."""
        return tuple(member.name or judge_name(member.judge) for member in self.members)

    @property
    def verdict(self) -> VerdictKind:
        return "probability" if any(verdict_of(m.judge) == "probability" for m in self.members) else "hard"


JudgeConfig = Annotated[
    EmbeddingJudge
    | LikelihoodJudge
    | VerdictTokensJudge
    | PythonJudge
    | ChatJudge
    | RubricJudge
    | RewardModelJudge
    | ProgramJudge
    | PanelJudge,
    Field(discriminator="kind"),
]


EngineJudge = VerdictTokensJudge | RewardModelJudge
"""Those that may run in a vLLM engine of their own."""


def single_judges(judge: JudgeConfig) -> tuple[SingleJudge, ...]:
    """The members of a panel; else the judge itself."""
    return tuple(member.judge for member in judge.members) if isinstance(judge, PanelJudge) else (judge,)


def judge_name(judge: SingleJudge) -> str:
    """How the match log calls it where a panel gives it no name of its own."""
    match judge:
        case ChatJudge() | RubricJudge():
            subject = judge.endpoint.model
        case PythonJudge():
            subject = judge.target
        case ProgramJudge():
            subject = judge.by.kind
        case _:
            subject = judge.model
    return f"{judge.kind}:{subject}"


def has_engine(judge: SingleJudge) -> TypeGuard[EngineJudge]:
    """Whether it runs in a vLLM engine of its own."""
    return isinstance(judge, VerdictTokensJudge) or (isinstance(judge, RewardModelJudge) and judge.engine == "vllm")


def verdict_of(judge: JudgeConfig) -> VerdictKind:
    """What the judge's number means."""
    if isinstance(judge, RubricJudge):
        return judge.merged_kind(judge.verdict)
    return "score" if isinstance(judge, EmbeddingJudge | LikelihoodJudge | RewardModelJudge) else judge.verdict


def is_symmetric(judge: JudgeConfig) -> bool:
    """Whether no verdict can depend on the order, so that the judge is asked once per match whatever the orders."""
    if isinstance(judge, PanelJudge):
        return all(map(is_symmetric, single_judges(judge)))
    if isinstance(judge, PythonJudge):
        return judge.symmetric
    return isinstance(judge, EmbeddingJudge | LikelihoodJudge | RewardModelJudge | ProgramJudge)


def criteria_of(judge: JudgeConfig) -> tuple[str, ...] | None:
    """Names of the criteria that its verdicts speak of; None where only its own code, or its model, knows them."""
    known: list[str] = []
    for one in single_judges(judge):
        if isinstance(one, PythonJudge) or (isinstance(one, RubricJudge) and one.criteria_from == "prompt"):
            return None
        if isinstance(one, RubricJudge):
            known += [criterion.id for criterion in one.rubric.criteria]
            known += TYPE_WEIGHTS if one.criteria_from == "pair" else ()
    return tuple(dict.fromkeys(known))


def can_rank(judge: JudgeConfig) -> bool:
    """Whether it can place several answers in one call, as topology k_wise asks."""
    return all(
        not isinstance(one, RubricJudge) and (not isinstance(one, PythonJudge) or one.ranks)
        for one in single_judges(judge)
    )
