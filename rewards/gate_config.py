"""`rewards.gates` in a recipe: cheap checks before any judge. A hard gate vetoes; a soft one takes from the reward."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from rewards.json_schema import checked
from rewards.strict import ImportPath, StrictModel

Regex = Annotated[str, Field(min_length=1, max_length=1000)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Language = Literal["en", "de", "fr", "es", "it", "pt", "nl", "ru", "el", "ar", "he", "hi", "th", "zh", "ja", "ko"]


class GateSettings(StrictModel):
    """What every gate has beside its own keys."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    """How metrics and tables call it; default: its kind. Two gates may not share a name."""
    part: str | None = None
    """Look at this part of the parsed answer only; an answer without it fails. Default: the whole text."""
    soft: bool = False
    """No veto: its score in [0, 1] enters a factor on the reward, a smoothed geometric mean of all soft gates."""
    weight: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Of a soft gate in that mean. 0: its score is only kept, and there for `rewards.router`."""

    @model_validator(mode="after")
    def _only_soft_gates_weigh(self) -> Self:
        if self.weight != 1.0 and not self.soft:
            raise ValueError("weight is a key of soft gates; set soft to true, or leave it out")
        return self


class LengthGate(GateSettings):
    """Fails answers outside [min_words, max_words]; optionally also those that do not end in one of `endings`."""

    kind: Literal["length"]
    min_words: Annotated[int, Field(ge=0)] = 1
    max_words: Annotated[int, Field(ge=1)] = 1_000_000
    endings: tuple[str, ...] = ()


class LanguageGate(GateSettings):
    """Fails answers in another script, or whose function words are more of another language than of this.

    A rule of thumb, no language identification: function words tell en, de, fr, es, it, pt and nl apart; of the others
    only the script is looked at, so that any language in Cyrillic letters passes for ru.
    """

    kind: Literal["language"]
    language: Language
    min_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the answer's letters that must be of the language's script."""


class FormatGate(GateSettings):
    """Fails answers that the task could not parse, or that lack one of `parts`."""

    kind: Literal["format"]
    parts: tuple[str, ...] = ()
    """Parts of the parsed answer that must be there and not blank."""


class JsonSchemaGate(GateSettings):
    """Fails answers that are no JSON, or JSON that does not fit the schema."""

    kind: Literal["json_schema"]
    rules: Annotated[dict[str, Any], AfterValidator(checked)]
    """A JSON Schema (draft 2020-12, if `$schema` names no other), written as YAML; `$ref` only inside it."""
    fenced: bool = False
    """The JSON may stand in a Markdown fence; the first fence is read."""


class PatternGate(GateSettings):
    """Fails answers in which a required pattern is not found, or a forbidden one is."""

    kind: Literal["pattern"]
    required: tuple[Regex, ...] = ()
    forbidden: tuple[Regex, ...] = ()
    """Regular expressions of Python; searched for anywhere in the answer."""
    ignore_case: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    """Of one search; an answer that takes longer fails, whatever the pattern."""
    max_characters: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Longer answers fail unread."""

    @field_validator("required", "forbidden")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            check_pattern(pattern)
        return patterns

    @model_validator(mode="after")
    def _looks_for_something(self) -> Self:
        if not self.required and not self.forbidden:
            raise ValueError("give patterns that are required or forbidden")
        return self


class CopyRatioGate(GateSettings):
    """Fails answers of whose word n-grams at least `max_ratio` stand in the prompt (or in one of its fields)."""

    kind: Literal["copy_ratio"]
    ngram: Annotated[int, Field(ge=1, le=20)] = 5
    max_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    field: str | None = None


class RepetitionGate(GateSettings):
    """Fails answers of whose n-grams at least `max_ratio` stood in them before."""

    kind: Literal["repetition"]
    ngram: Annotated[int, Field(ge=1, le=50)] = 4
    max_ratio: Annotated[float, Field(gt=0, le=1)] = 0.4
    unit: Literal["words", "characters"] = "words"
    """`characters` for scripts that put no space between words."""


class ExactAnswerGate(GateSettings):
    """Fails answers that are not what a field of the prompt says; case, outer punctuation and white space aside."""

    kind: Literal["exact_answer"]
    field: str
    """Prompt field with the right answer."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """Splits the field into several right answers."""
    extract: Regex | None = None
    """The answer is the first group (or all) of this pattern's last match, such as `Answer: (.*)`."""

    @field_validator("extract")
    @classmethod
    def _compile(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            check_pattern(pattern)
        return pattern


class CommandGate(GateSettings):
    """Fails answers for which a command, such as a unit test, does not exit with 0. Linux only.

    The command runs in a folder of its own that holds the answer, without the environment of the run, under limits, cut
    off from the network and from other processes; all other files are read-only. It guards against accidents and
    careless code; against code that attacks the machine it is no substitute for a virtual machine.
    """

    kind: Literal["command"]
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """Program and arguments; no shell."""
    answer_file: FileName = "answer.txt"
    """The answer, in the folder where the command runs."""
    fenced: bool = False
    """The answer is what stands in its first Markdown fence, if it has one."""
    field_files: dict[FileName, str] = Field(default={})
    """More files: name, and the prompt field that is written to it, such as `{test_answer.py: tests}`."""
    env: dict[str, str] = Field(default={})
    """Environment variables beside PATH, HOME, TMPDIR and LANG."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Of wall-clock time; then the command and all it started are killed."""
    memory_mib: Annotated[int, Field(ge=16, le=1_048_576)] = 1024
    """Address space of each process."""
    max_file_mib: Annotated[int, Field(ge=1, le=65536)] = 16
    """Size of each file that is written, the output included."""
    max_processes: Annotated[int, Field(ge=1, le=4096)] = 64
    """Processes and threads at once."""
    network: Literal["refused", "allowed"] = "refused"
    """`refused`: no way out; where the machine does not allow to cut commands off, the gate refuses to start.
    `allowed`: where the machine allows no more, the command runs under the limits alone and may write your files."""
    run_as: Literal["nobody", "same"] = "nobody"
    """Only where the run is root's: `same` stays root, whose processes cannot be counted, so max_processes is void."""
    max_concurrency: Annotated[int, Field(ge=1, le=1024)] = 2
    """Commands of this gate at once."""


class PythonGate(GateSettings):
    """Your own function `(prompt, candidate) -> bool | float`, sync or async; a float is a score in [0, 1]."""

    kind: Literal["python"]
    target: ImportPath
    min_score: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A hard gate fails answers that score less."""

    @model_validator(mode="after")
    def _sees_everything(self) -> Self:
        if self.part is not None:
            raise ValueError("part: the function is given the whole candidate and finds its parts there; leave it out")
        return self


GateConfig = Annotated[
    LengthGate
    | LanguageGate
    | FormatGate
    | JsonSchemaGate
    | PatternGate
    | CopyRatioGate
    | RepetitionGate
    | ExactAnswerGate
    | CommandGate
    | PythonGate,
    Field(discriminator="kind"),
]


def gate_name(config: GateSettings) -> str:
    return config.name or str(getattr(config, "kind", ""))


def gate_fields(config: GateConfig) -> list[tuple[tuple[str, ...], str]]:
    """Prompt fields that a gate reads, each with the key that names it."""
    if isinstance(config, CopyRatioGate | ExactAnswerGate) and config.field is not None:
        return [(("field",), config.field)]
    if isinstance(config, CommandGate):
        return [(("field_files", file), field) for file, field in config.field_files.items()]
    return []


def check_pattern(pattern: str) -> None:
    """Raises ValueError where it is no regular expression."""
    import regex

    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"no regular expression: {error}") from None
