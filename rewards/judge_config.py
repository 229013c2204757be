"""`rewards.judge` in a recipe: who compares two answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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
