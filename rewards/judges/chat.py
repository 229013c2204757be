"""A model behind an OpenAI-compatible endpoint reads prompt, criteria and answers, reasons, and gives its verdict.

compare --> votes (`voting.py`), each read strictly --mean or majority--> one Verdict

A bad reply is asked for again by whoever calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from rewards.errors import UserError
from rewards.judge_config import ChatJudge, judge_name
from rewards.judges.places import places_of
from rewards.judges.reply_forms import REPLY_FORMS, ReplyForm, ranking_schema, read_ranking
from rewards.judges.voting import Voters, merge
from rewards.list_template import ListTemplate, load_list_template
from rewards.template import ChatTemplate, Pattern, load_template
from rewards.types import Candidate, Completer, Completion, Message, Places, Prompt, Verdict, VerdictKind

TEXTS = ("criteria", "choice_first", "choice_second")
DATA = ("prompt", "first", "second")
"""Placeholders of the template for pairs."""

LIST_TEXTS = ("criteria", "labels")
LIST_DATA = ("prompt",)

LABELS = tuple("ABCDEFGHIJKLMNOP")
MAX_REASON = 1000
"""Characters of a reason that are kept."""

Said = TypeVar("Said")


@dataclass(frozen=True, slots=True)
class _Vote(Generic[Said]):
    said: Said
    reason: str


class Chat:
    """Verdict: as `reply` says (see `reply_forms.py`); of several votes their mean, or the majority's winner.

    The mean of votes for a winner is the share of votes, a probability. Votes that failed are missing; a verdict fails
    when all did. It may lean to one seat: not symmetric.

    Args:
        name: how the match log calls the judge.
        completer: belongs to the judge, which closes it.
        majority: each vote counts for its winner; most votes win, as many for both are a tie.
        seed: of the fences around the texts.
    """

    symmetric = False

    def __init__(
        self,
        name: str,
        completer: Completer,
        template: ChatTemplate,
        list_template: ListTemplate,
        *,
        form: ReplyForm,
        kind: VerdictKind,
        criteria: str,
        votes: int = 1,
        majority: bool = False,
        seed: int = 0,
    ):
        self.name = name
        self.kind: VerdictKind = kind
        self._completer = completer
        self._template = template
        self._list_template = list_template
        self._form = form
        self._criteria = criteria
        self.requests_per_call = votes
        self._voters = Voters(completer, votes)
        self._majority = majority
        self._seed = seed

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        """Raises JudgeFailure if no vote was given; what else the completer raises passes through."""
        labels = (LABELS[0], LABELS[1])
        texts = {"criteria": self._criteria, "choice_first": labels[0], "choice_second": labels[1]}
        data = {"prompt": prompt.text, "first": first.text, "second": second.text}
        messages, _ = self._template.render(texts, data, seed=self._seed)
        votes, spent = await self._poll(
            messages, self._form.schema(labels), lambda reply: self._form.read(reply, labels)
        )
        merged = merge([vote.said for vote in votes], self._form.kind, majority=self._majority)
        return Verdict(
            merged.value,
            reason=votes[merged.spokesman].reason,
            tokens_in=spent.tokens_in,
            tokens_out=spent.tokens_out,
            cost=spent.cost,
        )

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        """Several votes are merged by the sum of their places, which is a Borda count. Raises as `compare`."""
        labels = LABELS[: len(candidates)]
        texts = {"criteria": self._criteria, "labels": ", ".join(labels)}
        items = [(label, candidate.text) for label, candidate in zip(labels, candidates, strict=True)]
        messages, _ = self._list_template.render(texts, {"prompt": prompt.text}, items, seed=self._seed)
        votes, spent = await self._poll(messages, ranking_schema(labels), lambda reply: read_ranking(reply, labels))
        # Level answers count the mean of the places they share.
        shared = [[place + (vote.said.count(place) - 1) / 2.0 for place in vote.said] for vote in votes]
        return Places(
            places_of([-sum(places) for places in zip(*shared, strict=True)]),
            reason=votes[0].reason,
            tokens_in=spent.tokens_in,
            tokens_out=spent.tokens_out,
            cost=spent.cost,
        )

    async def close(self) -> None:
        await self._completer.close()

    async def _poll(
        self, messages: Sequence[Message], schema: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Said]
    ) -> tuple[list[_Vote[Said]], Completion]:
        return await self._voters.ask(
            messages, schema, lambda reply, before: _Vote(read(reply), _reason(reply, before))
        )


def _reason(reply: Mapping[str, Any], before: str) -> str:
    """What the reply gives as its reason, else the text before its verdict."""
    said = reply.get("reason")
    return " ".join((said if isinstance(said, str) and said.strip() else before).split())[:MAX_REASON]


def build_chat(config: ChatJudge, completer: Completer, *, seed: int, base_dir: Path | None) -> Chat:
    """Raises UserError where a template is at fault."""
    template, list_template = load_chat_templates(config, base_dir)
    return Chat(
        judge_name(config),
        completer,
        template,
        list_template,
        form=REPLY_FORMS[config.reply],
        kind=config.verdict,
        criteria=config.criteria,
        votes=config.votes,
        majority=config.has_majority,
        seed=seed,
    )


def load_chat_templates(config: ChatJudge, base_dir: Path | None) -> tuple[ChatTemplate, ListTemplate]:
    """Raises UserError also for the beginning of an answer: endpoints do not agree on how to go on with one."""
    name = config.template or f"chat_{config.reply}"
    template = load_template(name, texts=TEXTS, data=DATA, base_dir=base_dir)
    listed = load_list_template(config.list_template, texts=LIST_TEXTS, data=LIST_DATA, base_dir=base_dir)
    for named, prefill in ((name, template.prefill), (config.list_template, listed.template.prefill)):
        if prefill != Pattern(("",), ()):
            raise UserError(f"template {named!r}: a chat judge begins its own answer; leave `# assistant` out")
    return template, listed
