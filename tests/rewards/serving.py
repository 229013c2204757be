"""A real uvicorn in a thread, for as long as a test wants to talk to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from rewards.arena import Arena, local_limiter
from rewards.calling import Caller
from rewards.config import TournamentRewards
from rewards.gates import build_gates
from rewards.http import Served, create_app
from rewards.http_door import Door, ServeLimits
from rewards.judges import build_judge
from rewards.ledger import Ledger
from rewards.types import Judge


def served(judge: str = "longer", *, needed_fields: tuple[str, ...] = (), **keys: Any) -> Served:
    """The rewards of a judge of `tests/launch/reward_plugins.py`; keys as in a recipe."""
    config = TournamentRewards.model_validate(
        {
            "judge": {"kind": "python", "target": f"tests.launch.reward_plugins:{judge}", "verdict": "hard"},
            "aggregator": {"kind": "win_rate"},
            **keys,
        }
    )
    built = build_judge(config.judge)
    ledger = Ledger()

    def sink() -> Arena:
        return Arena(config, built, build_gates(config.gates), on_call=lambda key, call: ledger.record("scoring", call))

    assert isinstance(built, Judge)
    caller = Caller(built, config.calls, local_limiter(config.calls))
    return Served(sink, caller, built.kind, ledger, needed_fields)


@contextmanager
def serving(
    what: Served, *, limits: ServeLimits = ServeLimits(), token: str | None = None
) -> Iterator[tuple[str, Door]]:
    """The service's address and its door."""
    door = create_app(what, limits=limits, token=token)
    server = uvicorn.Server(uvicorn.Config(door, port=0, log_level="critical", lifespan="off"))
    ready = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            ready.set()

    server = Server(server.config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        assert ready.wait(30)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", door
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
