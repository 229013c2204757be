"""The answer whose sentence embedding is closer to a reference text wins.

    compare --\\                     texts asked for while a batch is at work wait in a queue
    compare ----> queue of texts --> ONE worker thread: drain the queue, encode what is new, answer from the cache
    compare --/   (each compare waits for its own job in that thread; the event loop stays free)

All jobs run in the one thread, so the cache and the model need no lock. The first job of a rush encodes the texts of
all that wait behind it; those then find theirs in the cache.
"""

from __future__ import annotations

import asyncio
import math
import queue
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from rewards.errors import JudgeFailure
from rewards.judge_config import EmbeddingJudge, judge_name
from rewards.judges.places import places_of
from rewards.judges.references import reference_of
from rewards.judges.sentence_encoder import FloatArray, SentenceEncoder
from rewards.types import Candidate, Places, Prompt, Verdict, VerdictKind

MAX_CACHED_TEXTS = 4096
"""Vectors kept; the least recently used go first."""


class Encoder(Protocol):
    def encode(self, texts: Sequence[str]) -> FloatArray: ...


class Embedding:
    """Verdict: cosine(first, reference) - cosine(second, reference), a score in [-2, 2]; symmetric.

    Args:
        name: how the match log calls the judge.
        encoder: texts to unit vectors; used from one thread of ours.
        reference_field: prompt field to be close to; None = the prompt's text.
        on_start: called once in that thread.
    """

    kind: VerdictKind = "score"
    symmetric = True

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        *,
        reference_field: str | None = None,
        on_start: Callable[[], None] | None = None,
        max_cached_texts: int = MAX_CACHED_TEXTS,
    ):
        self.name = name
        self._encoder = encoder
        self._reference_field = reference_field
        self._max_cached_texts = max_cached_texts
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._cache: OrderedDict[str, FloatArray] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="embedding-judge", initializer=on_start)

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        """Raises:
        UserError: the prompt has no such field.
        JudgeFailure: the model's vectors are not finite.
        """
        ours, theirs = await self._closeness(prompt, (first, second))
        return Verdict(ours - theirs)

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        """The closest first; equal texts are level. Raises as `compare`."""
        return Places(places_of(await self._closeness(prompt, candidates)))

    async def close(self) -> None:
        """Waits for the batch at work; calls that still wait are cancelled. The thread has ended when this returns."""
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)

    async def _closeness(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[float]:
        """Cosine of each candidate with the reference."""
        texts = (reference_of(prompt, self._reference_field), *(candidate.text for candidate in candidates))
        for text in texts:
            self._queue.put(text)
        vectors = await asyncio.get_running_loop().run_in_executor(self._worker, self._vectors, texts)
        cosines = [float(vector @ vectors[0]) for vector in vectors[1:]]
        if not all(map(math.isfinite, cosines)):
            raise JudgeFailure("bad_reply", f"{self.name} gave vectors that are not finite", retryable=False)
        return cosines

    def _vectors(self, texts: Sequence[str]) -> list[FloatArray]:
        """In the worker thread: encode everything that is waited for, then answer for `texts`."""
        wanted = dict.fromkeys(texts)
        while not self._queue.empty():
            wanted[self._queue.get()] = None
        new = [text for text in wanted if text not in self._cache]
        if new:
            self._cache.update(zip(new, self._encoder.encode(new), strict=True))
        for text in texts:
            self._cache.move_to_end(text)
        vectors = [self._cache[text] for text in texts]
        while len(self._cache) > self._max_cached_texts:
            self._cache.popitem(last=False)
        return vectors


def build_embedding(config: EmbeddingJudge, directory: Path) -> Embedding:
    encoder = SentenceEncoder(directory, max_tokens=config.max_tokens, batch_size=config.batch_size)
    return Embedding(
        judge_name(config),
        encoder,
        reference_field=config.reference_field,
        on_start=encoder.use_half_the_cores,
    )
