"""The door of the HTTP service: who may come in, how many at once, how much they may bring, how long they may stay.

request --token?--> 401    --closing?--> 503    --full?--> 429    --too large?--> 413    --too slow?--> 408, 504
                    (Bearer, or the password of Basic, for clients that can only put it into the address)
        --> the whole body is read, then the app is called; nothing of a request that was turned away reaches it

Plain ASGI, so that limits hold before anything is parsed, also for bodies that do not say how long they are.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/healthz", "/openapi.json", "/docs", "/docs/oauth2-redirect"})
"""What anybody may read."""
GATHERING_PATHS = frozenset({"/v1/groups/gather", "/v1/openrlhf"})
"""Where requests wait for each other: they must not fill the places of those who work."""


@dataclass(frozen=True, slots=True)
class ServeLimits:
    """What a request may take. A group is more work than a request: judge calls have limits of their own."""

    max_body_bytes: int = 8 * 1024 * 1024
    max_group: int = 64
    max_requests: int = 64
    """At work at once; more are asked to come again."""
    deadline_s: float = 600.0
    """Of a whole request."""
    max_gathering: int = 4096
    """Requests that wait for the rest of their groups, or for its scores."""
    gather_deadline_s: float = 150.0
    """How long the first member of a group waits for the last; OpenRLHF's client gives up after 180 s."""
    body_deadline_s: float = 30.0
    retry_after_s: int = 1


@dataclass(frozen=True, slots=True)
class _Refusal(Exception):
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


class Door:
    """ASGI middleware.

    Args:
        token: what `Authorization: Bearer` must say; None: anybody may come in.
        on_done: told of every request: path, status, seconds.
    """

    def __init__(
        self,
        app: App,
        *,
        limits: ServeLimits,
        token: str | None = None,
        on_done: Callable[[str, int, float], None] = lambda path, status, seconds: None,
    ) -> None:
        self.at_work = 0
        self.gathering = 0
        self.is_closing = False
        self._app = app
        self._limits = limits
        self._token = None if token is None else token.encode()
        self._on_done = on_done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, status = time.perf_counter(), 500

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            try:
                await self._enter(scope, receive, sent)
            except _Refusal as refusal:
                await _refuse(refusal, sent)
        finally:
            self._on_done(scope["path"], status, time.perf_counter() - started_s)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        self._check_token(headers)
        come_again = (("retry-after", str(self._limits.retry_after_s)),)
        if self.is_closing:
            raise _Refusal(503, "the service is closing", come_again)
        gathers = scope["path"] in GATHERING_PATHS
        there, most = (
            (self.gathering, self._limits.max_gathering) if gathers else (self.at_work, self._limits.max_requests)
        )
        if there >= most:
            raise _Refusal(429, f"{there} requests are at work already; come again", come_again)
        self.at_work += not gathers
        self.gathering += gathers
        try:
            body = await self._body(headers, receive)
            answered = False

            async def replay() -> MutableMapping[str, Any]:
                nonlocal answered
                if answered:
                    return await receive()
                answered = True
                return {"type": "http.request", "body": body, "more_body": False}

            deadline = asyncio.timeout(self._limits.deadline_s)
            try:
                async with deadline:
                    await self._app(scope, replay, send)
            except TimeoutError:
                if not deadline.expired():
                    raise
                raise _Refusal(504, f"no answer within {self._limits.deadline_s:g} s; send less at once") from None
        finally:
            self.at_work -= not gathers
            self.gathering -= gathers

    def _check_token(self, headers: dict[bytes, bytes]) -> None:
        if self._token is None:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"basic":
            given = _password(given)
        # Compared whatever the scheme, so that the time tells nothing.
        if not (hmac.compare_digest(given.strip(), self._token) and scheme.lower() in (b"bearer", b"basic")):
            raise _Refusal(401, "a valid bearer token is needed", (("www-authenticate", "Bearer"),))

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        most = self._limits.max_body_bytes
        # What stays unread would be taken for the next request.
        too_large = _Refusal(
            413, f"the body is larger than {most} bytes; send less at once", (("connection", "close"),)
        )
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:20]) > most:
            raise too_large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_deadline_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Refusal(400, "the connection was closed before the body was whole")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise too_large
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            closes = (("connection", "close"),)
            raise _Refusal(408, f"the body was not whole within {self._limits.body_deadline_s:g} s", closes) from None


def _password(given: bytes) -> bytes:
    try:
        return base64.b64decode(given, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


async def _refuse(refusal: _Refusal, send: Send) -> None:
    body = json.dumps({"error": refusal.reason}).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), *refusal.headers]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
