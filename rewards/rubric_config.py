"""A rubric, and the judge that goes through it by criterion. A recipe names a rubric file, or writes it out."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewards.strict import StrictModel
from rewards.voting_config import VotingJudge

CriterionType = Literal["fatal", "core", "important", "highlight"]
Part = Literal["path", "answer"]

TYPE_WEIGHTS: dict[CriterionType, float] = {"core": 5.0, "important": 2.0, "highlight": 1.0}
"""What a criterion weighs by its type (OpenRS, arXiv 2602.14069); fatal ones are not weighed, they veto."""

ID_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"


class Criterion(StrictModel):
    """One thing that two answers are compared by."""

    id: Annotated[str, Field(pattern=ID_PATTERN)]
    """How replies, metrics and tables call it."""
    text: Annotated[str, Field(min_length=1, max_length=2000)]
    """What the judge reads."""
    type: CriterionType = "important"
    """fatal: where only one of the two fails it, it decides alone. The others weigh 5, 2 and 1."""
    weight: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Instead of its type's."""
    scale: Annotated[int, Field(ge=1, le=10)] = 2
    """By how much one answer can be better, in whole steps."""
    part: Part = "answer"
    """Of an agent's rollout: the way it took, or what it says in the end."""

    @model_validator(mode="after")
    def _fatal_criteria_do_not_weigh(self) -> Self:
        if self.type == "fatal" and self.weight is not None:
            raise ValueError("weight: a fatal criterion decides alone and is not weighed; leave it out")
        return self

    @property
    def weighs(self) -> float:
        """0 for a fatal one."""
        return self.weight if self.weight is not None else TYPE_WEIGHTS.get(self.type, 0.0)


class Rubric(StrictModel):
    """What answers are compared by."""

    criteria: Annotated[tuple[Criterion, ...], Field(max_length=40)] = ()
    part_weights: dict[Part, Annotated[float, Field(gt=0, le=1000)]] = Field(default={})
    """What path and answer count (ArenaRL: 0.6 and 0.4 in travel); the judge then reads both. None: answers only."""

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        ids = [criterion.id for criterion in self.criteria]
        if twice := next((name for name in ids if ids.count(name) > 1), None):
            raise ValueError(f"criteria: two have the id '{twice}'; rename one")
        if taken := next((name for name in ids if name in (*TYPE_WEIGHTS, "fatal")), None):
            raise ValueError(f"criteria: '{taken}' is the name of a type; give the criterion another id")
        paths = [criterion.id for criterion in self.criteria if criterion.part == "path"]
        if paths and not self.part_weights:
            raise ValueError(f"part_weights: '{paths[0]}' looks at the path; say what path and answer count")
        return self


class RubricJudge(VotingJudge):
    """A model behind an OpenAI-compatible endpoint compares two answers criterion by criterion, with evidence.

    What the comparisons come to is computed outside the model: a score in [-1, 1], a weighted mean over all criteria;
    where a fatal criterion tells the two apart, it alone decides, with a score beyond that, up to 2. It compares two,
    and ranks no slates: evidence, vetoes and the fixed denominator are about a pair.
    """

    kind: Literal["rubric"]
    rubric: Rubric
    """The path of a rubric file (YAML), or its content."""
    criteria_from: Literal["rubric", "pair", "prompt"] = "rubric"
    """Where criteria come from besides the rubric's. `pair`: the judge writes more in the same call, from the task and
    what tells the two apart (OpenRS). `prompt`: they are written once per prompt, from three of its rollouts, and kept
    (PC2); a group's matches then start when all of its rollouts are there, and its first comparison pays for them."""
    guidance: Annotated[str, Field(min_length=1, max_length=8000)] = (
        "Prefer criteria about what the task needs: correctness, completeness, following its constraints, usefulness "
        "to whoever asked. Length and style count only where the task asks for them."
    )
    """The meta-rubric: how criteria are to be written. Read where criteria_from is not `rubric`."""
    min_criteria: Annotated[int, Field(ge=1, le=40)] = 3
    max_criteria: Annotated[int, Field(ge=1, le=40)] = 8
    """Of written criteria, the rubric's own aside."""
    verdict: Literal["score", "hard"] = "score"
    """Of one vote. hard: who is better by more than `min_margin`; else a tie."""
    min_margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    template: str | None = None
    """Name of a prompt template in `rewards/templates/`, or the path of one; default: `rubric`, or `rubric_pair` where
    the criteria come from the pair."""
    write_template: str = "rubric_write"
    """The same for writing criteria once per prompt."""

    @model_validator(mode="after")
    def _criteria_come_from_somewhere(self) -> Self:
        written = self.criteria_from != "rubric"
        if not self.rubric.criteria and not written:
            raise ValueError("rubric.criteria: give at least one criterion, or let criteria_from write some")
        if self.min_criteria > self.max_criteria:
            raise ValueError(f"min_criteria: is more than max_criteria {self.max_criteria}; lower it")
        if self.min_margin and self.verdict == "score":
            raise ValueError("min_margin: belongs to `verdict: hard`; scores keep their size")
        parts = {criterion.part for criterion in self.rubric.criteria if criterion.type != "fatal"}
        parts |= {"answer"} if written else set()
        if empty := sorted(set(self.rubric.part_weights) - parts):
            raise ValueError(f"rubric.part_weights: no criterion weighs for '{empty[0]}'; add one, or leave it out")
        if self.rubric.part_weights and (unweighed := sorted(parts - set(self.rubric.part_weights))):
            raise ValueError(f"rubric.part_weights: criteria look at '{unweighed[0]}', which has no weight; add it")
        return self
