"""`rewards.judge` in a recipe: who compares two answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.rubric_config import RubricJudge
from rewards.strict import ImportPath, StrictModel


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
    list_template: str = "verdict_tokens_list"
    """The same for several answers in one call (topology k_wise); its paragraph with {answer} is repeated."""
    labels: Annotated[tuple[str, ...], Field(min_length=2, max_length=16)] = tuple("ABCDEFGHIJKLMNOP")
    """One-token names of the answers of such a call, in the order shown."""
    max_model_len: Annotated[int, Field(ge=64, le=1_048_576)] = 2048
    kv_cache_gib: Annotated[float, Field(gt=0, le=4096)] = 1.0


class PythonJudge(StrictModel):
    """Your own function `(prompt, first, second) -> float | None`, sync or async, or a class with `compare`.

    `ranks: true` says that the class also has `rank(prompt, candidates)`: a place per candidate, how many are better
    (0 for the best, level ones share the lowest: `[1, 0, 1]`), or None. Topology k_wise needs it.
    """

    kind: Literal["python"]
    target: ImportPath
    verdict: Literal["hard", "probability", "score"] = "probability"
    symmetric: bool = False
    ranks: bool = False
    """The class has a method `rank` for several answers at once."""


JudgeConfig = Annotated[
    EmbeddingJudge | LikelihoodJudge | VerdictTokensJudge | PythonJudge | RubricJudge, Field(discriminator="kind")
]


def can_rank(judge: JudgeConfig) -> bool:
    """Whether it can place several answers in one call, as topology k_wise asks."""
    if isinstance(judge, RubricJudge):
        return False
    return not isinstance(judge, PythonJudge) or judge.ranks
