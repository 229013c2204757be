"""A group as it comes from outside, in a file or over HTTP: a prompt and the answers to it, as plain texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from rewards.errors import UserError
from rewards.strict import StrictModel
from rewards.types import Candidate, GroupKey, GroupScore, GroupSink, Prompt

MAX_GROUP = 4096
"""Answers in a group: a round robin of them would be eight million matches."""


def _is_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is half of a surrogate pair, which is no text") from None
    return value


Text = Annotated[str, AfterValidator(_is_text)]


class ChatMessage(StrictModel):
    role: Text
    content: Text


class GroupOfTexts(StrictModel):
    """A prompt and its answers."""

    prompt: Text | Annotated[list[ChatMessage], Field(min_length=1, max_length=1024)]
    """A text, or chat messages; of those a judge reads the last one as the task."""
    candidates: Annotated[list[Text], Field(min_length=2, max_length=MAX_GROUP)]
    id: Text | None = None
    """How messages and results call the group."""
    fields: Annotated[dict[Text, Text], Field(max_length=1024)] = Field(default_factory=dict)
    """What else judges and gates may read of the prompt, such as a reference text, by name."""

    def as_prompt(self) -> Prompt:
        return as_prompt(self.prompt, self.fields, self.id or "")


def as_prompt(prompt: str | Sequence[ChatMessage], fields: dict[str, str], name: str) -> Prompt:
    if isinstance(prompt, str):
        return Prompt(name, prompt, ({"role": "user", "content": prompt},), fields)
    messages = tuple({"role": message.role, "content": message.content} for message in prompt)
    return Prompt(name, messages[-1]["content"], messages, fields)


def one_line(error: ValidationError) -> str:
    """The first fault of a pydantic error: `candidates.1: Input should be a valid string`."""
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])


def check_fields(groups: Sequence[GroupOfTexts], needed: Sequence[str]) -> None:
    """Raises UserError where a group has not all fields that the rewards read."""
    for number, group in enumerate(groups):
        for name in needed:
            if name not in group.fields:
                raise UserError(
                    f"group {group.id if group.id is not None else number}: fields.{name} is missing; the rewards "
                    "read it"
                )


async def score_texts(sink: GroupSink, groups: Sequence[GroupOfTexts]) -> list[GroupScore]:
    """Scores groups as one batch."""
    keys = [
        GroupKey(f"{number}" if group.id is None else f"{number}:{group.id}") for number, group in enumerate(groups)
    ]
    for key, group in zip(keys, groups, strict=True):
        await sink.open(key, group.as_prompt(), len(group.candidates))
        for index, text in enumerate(group.candidates):
            await sink.add(key, index, Candidate(str(index), text))
        await sink.close(key)
    scores = await sink.scores()
    return [scores[key] for key in keys]
