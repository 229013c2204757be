"""A client of the reward service for other trainers' processes: brings answers, waits for their rewards.

It needs httpx and nothing else of podium. 429, 503 and a dropped connection are tried again until the deadline.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

Messages = Sequence[Mapping[str, Any]]

RETRIED = (429, 503)
MOST_PAUSE_S = 30.0


class RewardServiceError(RuntimeError):
    """The service did not give rewards; the message says why."""


@dataclass(frozen=True, slots=True)
class Rewards:
    """rewards: of the answers that were brought; None = unscored. group_mean: of the whole group's scored answers."""

    rewards: list[float | None]
    group_mean: float | None


class RewardClient:
    """One per process and event loop.

    Args:
        url: of the service, for instance `http://rewards:8780`.
        token_env: environment variable that holds the bearer token; None: the service asks for none.
        timeout_s: longest wait for the rewards of a group, its other members' arrival included.
    """

    def __init__(self, url: str, *, token_env: str | None = None, timeout_s: float = 600.0) -> None:
        headers = {} if token_env is None else {"authorization": f"Bearer {_token(token_env)}"}
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=timeout_s, limits=httpx.Limits(max_connections=None)
        )
        self._timeout_s = timeout_s

    async def gather(
        self,
        prompt: str | Messages,
        candidates: Sequence[str],
        *,
        group_size: int,
        group: str | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> Rewards:
        """Brings some answers of a group.

        Raises:
            RewardServiceError: no rewards, and why.
        """
        asked = {"prompt": prompt, "candidates": list(candidates), "group_size": group_size, "group": group}
        ids = [uuid.uuid4().hex for _ in candidates]  # the same in every attempt
        reply = await self._post("/v1/groups/gather", {**asked, "fields": dict(fields or {}), "ids": ids})
        return Rewards(reply["rewards"], reply["group_mean"])

    async def close(self) -> None:
        await self._client.aclose()

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        deadline_s = time.monotonic() + self._timeout_s
        pause_s = 0.5
        while True:
            wait_s = pause_s
            try:
                reply = await self._client.post(path, json=body)
                if reply.status_code == 200:
                    return reply.json()
                reason = f"{reply.status_code}: {_reason(reply)}"
                if reply.status_code not in RETRIED:
                    raise RewardServiceError(f"{self._client.base_url}{path.lstrip('/')}: {reason}")
                wait_s = max(pause_s, _retry_after_s(reply))
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
                if isinstance(error, httpx.ReadTimeout):
                    raise RewardServiceError(f"no rewards within {self._timeout_s:g} s") from error
            if time.monotonic() + wait_s > deadline_s:
                raise RewardServiceError(f"no rewards within {self._timeout_s:g} s; last: {reason}")
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, MOST_PAUSE_S)


def _token(token_env: str) -> str:
    token = os.environ.get(token_env, "").strip()
    if not token:
        raise RewardServiceError(f"environment variable {token_env} is not set; it is to hold the service's token")
    if not token.isascii():
        raise RewardServiceError(
            f"environment variable {token_env}: a token is ASCII, and this one is not; copy it again"
        )
    return token


def _reason(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"])
    except (ValueError, KeyError, TypeError):
        return reply.text[:200]


def _retry_after_s(reply: httpx.Response) -> float:
    text = reply.headers.get("retry-after", "")
    return min(MOST_PAUSE_S, float(text)) if text.isdigit() else 0.0
