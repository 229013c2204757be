"""Templates over any number of answers: the paragraph that holds `{answer}` is repeated, once for each of them.

    Answer {label}:          Answer A:
    {answer}          -->    [text 5f1c09ab] ... [end 5f1c09ab]

                             Answer B:
                             [text 91d0c3e7] ... [end 91d0c3e7]

A paragraph ends at an empty line. Everything else is as in `template.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rewards.errors import UserError
from rewards.template import ChatTemplate, Pattern, load_template
from rewards.types import Message

ITEM_TEXT, ITEM_DATA = "label", "answer"
"""Placeholders of the repeated paragraph: a trusted text and the data it names."""

BREAK = "\n\n"

_Token = tuple[bool, str]
"""Whether it is a placeholder, and its text or name."""


@dataclass(frozen=True, slots=True)
class ListTemplate:
    """Messages whose paragraphs with `{answer}` stand for as many as there are answers."""

    template: ChatTemplate

    def render(
        self, texts: dict[str, str], data: dict[str, str], items: Sequence[tuple[str, str]], *, seed: int
    ) -> tuple[list[Message], str]:
        """As `ChatTemplate.render`; `items` are pairs of a label and an answer."""
        messages = tuple((role, _repeat(pattern, len(items))) for role, pattern in self.template.messages)
        texts = texts | {f"{ITEM_TEXT}_{number}": label for number, (label, _) in enumerate(items)}
        data = data | {f"{ITEM_DATA}_{number}": answer for number, (_, answer) in enumerate(items)}
        return ChatTemplate(messages, self.template.prefill).render(texts, data, seed=seed)


def load_list_template(
    name: str, *, texts: Collection[str], data: Collection[str], base_dir: Path | None = None
) -> ListTemplate:
    """As `load_template`, with `{label}` and `{answer}`.

    Raises:
        UserError: also where `{label}` stands in a paragraph without an `{answer}`.
    """
    template = load_template(name, texts={*texts, ITEM_TEXT}, data={*data, ITEM_DATA}, base_dir=base_dir)
    for pattern in (template.prefill, *(pattern for _, pattern in template.messages)):
        for paragraph in _paragraphs(pattern):
            if (True, ITEM_TEXT) in paragraph and (True, ITEM_DATA) not in paragraph:
                raise UserError(
                    f"template {name!r}: {{{ITEM_TEXT}}} stands in a paragraph without {{{ITEM_DATA}}}, which is not "
                    "repeated; take out the empty line between the two"
                )
    return ListTemplate(template)


def _repeat(pattern: Pattern, count: int) -> Pattern:
    paragraphs = list(
        chain.from_iterable(
            [_numbered(paragraph, number) for number in range(count)] if (True, ITEM_DATA) in paragraph else [paragraph]
            for paragraph in _paragraphs(pattern)
        )
    )
    literals, names = [""], []
    for number, paragraph in enumerate(paragraphs):
        for is_name, text in ([(False, BREAK)] if number else []) + paragraph:
            if is_name:
                names.append(text)
                literals.append("")
            else:
                literals[-1] += text
    return Pattern(tuple(literals), tuple(names))


def _paragraphs(pattern: Pattern) -> Iterator[list[_Token]]:
    paragraph: list[_Token] = []
    for number, literal in enumerate(pattern.literals):
        first, *rest = literal.split(BREAK)
        paragraph.append((False, first))
        for text in rest:
            yield paragraph
            paragraph = [(False, text)]
        if number < len(pattern.names):
            paragraph.append((True, pattern.names[number]))
    yield paragraph


def _numbered(paragraph: Sequence[_Token], number: int) -> list[_Token]:
    own = (ITEM_TEXT, ITEM_DATA)
    return [(is_name, f"{text}_{number}" if is_name and text in own else text) for is_name, text in paragraph]
