"""`podium serve`: the reward service of a recipe over HTTP, until a signal ends it.

SIGTERM, SIGINT --> no new connection, /healthz says closing --> requests at work are finished --> judge, cache closed
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from launch.reward_side import needed_fields, open_reward_side
from recipes.reward import LoadedRewards
from rewards.errors import UserError
from rewards.http import Served, create_app
from rewards.http_door import Door, ServeLimits
from rewards.types import Judge


def serve(
    loaded: LoadedRewards,
    *,
    host: str,
    port: int,
    token_env: str | None,
    limits: ServeLimits,
    say: Callable[[str], None],
) -> None:
    """Serves until SIGTERM or SIGINT; what was accepted by then is finished.

    Args:
        port: 0 takes a free one; `say` tells which.
        token_env: environment variable that holds the bearer token. None is refused for a host that others can reach.

    Raises:
        UserError: bad input, or the address cannot be taken; nothing was started.
    """
    token = _token(token_env, host)
    listener = _listen(host, port)
    try:
        asyncio.run(_serve(loaded, listener, token, limits, say))
    finally:
        listener.close()


async def _serve(
    loaded: LoadedRewards, listener: socket.socket, token: str | None, limits: ServeLimits, say: Callable[[str], None]
) -> None:
    async with open_reward_side(loaded) as side:
        await side.sink().stop()  # what cannot work is to be found now, not by every request
        served = Served(
            new_sink=side.sink,
            caller=side.caller(),
            kind=side.judge.kind if isinstance(side.judge, Judge) else None,
            ledger=side.ledger,
            needed_fields=needed_fields(loaded.recipe.rewards),
        )
        door = create_app(served, limits=limits, token=token)
        url = _url(*listener.getsockname()[:2])
        config = uvicorn.Config(door, log_level="warning", access_log=False, lifespan="off")
        await _Server(config, door, partial(say, f"serving {loaded.recipe.name} on {url}")).serve([listener])


class _Server(uvicorn.Server):
    """uvicorn that leaves signals alone once it has ended: it would raise them again before the cache is closed."""

    def __init__(self, config: uvicorn.Config, door: Door, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._door = door
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._close, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _close(self, number: int) -> None:
        self._door.is_closing = True
        self.handle_exit(number, None)


def _token(token_env: str | None, host: str) -> str | None:
    if token_env is None:
        if not _is_loopback(host):
            raise UserError(
                f"--host {host}: others can reach it; name the environment variable of a bearer token with --token-env"
            )
        return None
    token = os.environ.get(token_env, "").strip()
    if not token:
        raise UserError(f"--token-env {token_env}: the environment variable is not set; it is to hold the bearer token")
    if not token.isascii():
        raise UserError(f"--token-env {token_env}: a bearer token is plain ASCII")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    """Bound before the judge is opened, so that a port that is taken is found at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a host"
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}); choose another") from None
    return listener


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
