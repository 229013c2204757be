"""The loop behind a tournament: start what can be played, wait for news, enter what has finished.

look() --items that can be played--> ask(item) --one task per call--> finished: told(call)
   ^                                                                        |
   |                          when all calls of an item have: more(item, calls) --further tasks, or none--> settle
   |                                                                                              |
   +-------------------------- wake: a call finished, somebody arrived, the group closed <--------+
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item", bound=Hashable)
Record = TypeVar("Record")


async def play_loop(
    wake: asyncio.Event,
    *,
    look: Callable[[], tuple[Sequence[Item], bool]],
    ask: Callable[[Item], Sequence[Coroutine[Any, Any, Record]]],
    more: Callable[[Item, Sequence[Record]], Sequence[Coroutine[Any, Any, Record]]] | None = None,
    told: Callable[[Record], None],
    settle: Callable[[Item, tuple[Record, ...]], None],
) -> None:
    """Plays until nobody else arrives, nothing is in flight and nothing is playable.

    A call's exception cancels the rest and surfaces; so does cancellation.

    Args:
        wake: set by whoever changes what `look` sees.
        look: items (matches, slates) that can be played now, those in flight included, and whether all have arrived.
        ask: the calls of an item, which start at once. more: those that follow once they have all finished.
        told: told of every finished call. settle: enters an item whose calls have all finished.
    """
    running: dict[asyncio.Task[Record], Item] = {}
    calls: dict[Item, list[asyncio.Task[Record]]] = {}

    def start(item: Item, asked: Sequence[Coroutine[Any, Any, Record]]) -> None:
        for call in asked:
            task = asyncio.create_task(call)
            task.add_done_callback(lambda _: wake.set())
            running[task] = item
            calls[item].append(task)

    try:
        while True:
            wake.clear()
            for task, item in [(task, item) for task, item in running.items() if task.done()]:
                del running[task]
                told(task.result())
                if all(asked not in running for asked in calls[item]):
                    records = tuple(asked.result() for asked in calls[item])
                    further = more(item, records) if more is not None else ()
                    start(item, further)
                    if not further:
                        settle(item, records)
            items, complete = look()
            for item in items:
                if item not in calls:
                    calls[item] = []
                    start(item, ask(item))
            if complete and not running:
                return
            await wake.wait()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
