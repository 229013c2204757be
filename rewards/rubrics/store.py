"""Where the criteria of a prompt are kept once they are written."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

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
