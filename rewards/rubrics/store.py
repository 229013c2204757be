"""Where the criteria of a prompt are kept once they are written."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Protocol

from rewards.cache import JudgeCache

MAX_PROMPTS = 16_384
"""Prompts whose criteria stay in memory; those used least recently go first."""


class CriteriaStore(Protocol):
    """Texts by key; a persistent cache may stand behind it, so that a resumed run finds them again."""

    async def get(self, key: str) -> str | None: ...
    async def put(self, key: str, text: str) -> None: ...


class MemoryStore:
    """In this process."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, str] = OrderedDict()

    async def get(self, key: str) -> str | None:
        if key in self._texts:
            self._texts.move_to_end(key)
        return self._texts.get(key)

    async def put(self, key: str, text: str) -> None:
        self._texts[key] = text
        self._texts.move_to_end(key)
        while len(self._texts) > MAX_PROMPTS:
            self._texts.popitem(last=False)


class CachedStore:
    """In the file of verdicts: a resumed run, or another one with the same judge, compares by the same criteria."""

    def __init__(self, cache: JudgeCache) -> None:
        self._cache = cache

    async def get(self, key: str) -> str | None:
        found = self._cache.find(_digest(key))
        return found if isinstance(found, str) else None

    async def put(self, key: str, text: str) -> None:
        """One that is there already stays. Raises RunStopped where an earlier write to the file failed."""
        self._cache.keep(_digest(key), text, "criteria")


def _digest(key: str) -> bytes:
    return hashlib.sha256(f"criteria {key}".encode()).digest()
