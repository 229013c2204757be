"""nDCG or recall of a ranked answer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

from rewards.errors import UserError
from rewards.judges.references import reference_of
from rewards.program_config import RankingProgram
from rewards.types import Candidate, Prompt


class RankingMetric:
    def __init__(self, config: RankingProgram):
        self._config = config

    def measure(self, prompt: Prompt, candidate: Candidate) -> float:
        """In [0, 1].

        Raises:
            UserError: the prompt's field is missing or names no relevant item.
        """
        config = self._config
        gains = self._gains(prompt)
        listed: Iterable[object] = candidate.text.splitlines()
        if config.answer_field is not None:
            parsed = candidate.parsed.fields.get(config.answer_field, ())
            listed = parsed if isinstance(parsed, Sequence) and not isinstance(parsed, str) else ()
        # An item named twice counts once, where it was first: a list of one good item is no good list.
        items = list(dict.fromkeys(str(item).strip() for item in listed if str(item).strip()))
        return (ndcg if config.metric == "ndcg" else recall)(items, gains, config.k)

    def _gains(self, prompt: Prompt) -> Mapping[str, float]:
        text = reference_of(prompt, self._config.reference_field)
        where = f"judge.by.reference_field: prompt {prompt.id}, field {self._config.reference_field!r}"
        try:
            said = json.loads(text)
            items = said.items() if isinstance(said, dict) else [(item, 1.0) for item in said]
            gains = {str(item): float(gain) for item, gain in items}
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(f"{where}: is no JSON object of gains or list of items ({error})") from error
        if not all(gain >= 0.0 and math.isfinite(gain) for gain in gains.values()) or not any(gains.values()):
            raise UserError(f"{where}: gains are numbers >= 0, and one is above 0")
        return gains


def ndcg(items: Sequence[str], gains: Mapping[str, float], k: int) -> float:
    """Discounted gain of the first k, gain / log2(1 + rank), over that of the best order."""
    reached = sum(gains.get(item, 0.0) / math.log2(rank + 2) for rank, item in enumerate(items[:k]))
    best = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(sorted(gains.values(), reverse=True)[:k]))
    return reached / best


def recall(items: Sequence[str], gains: Mapping[str, float], k: int) -> float:
    """Relevant items (gain above 0) among the first k, of all."""
    relevant = {item for item, gain in gains.items() if gain > 0.0}
    return len(relevant.intersection(items[:k])) / len(relevant)
