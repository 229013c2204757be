"""Work on texts that is done once per text, and kept.

get(keys) --> future of each key, made once --> Kept: ONE worker thread: work(key)
                                            --> KeptTasks: a task each: await work(key)
(who asks for the same key waits for the same future, and giving up on one takes it from no other; the event loop
stays free; a future that failed is forgotten, so that a retry works again)
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")

MAX_KEPT = 4096
"""Results that are kept; the oldest go first."""


class Once(ABC, Generic[Key, Result]):
    """Results by key, each worked out once."""

    def __init__(self) -> None:
        self._futures: dict[Key, asyncio.Future[Result]] = {}

    async def get(self, keys: Sequence[Key]) -> list[Result]:
        """Raises what the work raised, for every key that waits for it."""
        return await asyncio.gather(*[asyncio.shield(self._future(key)) for key in keys])

    @abstractmethod
    def _begin(self, key: Key) -> asyncio.Future[Result]: ...

    @abstractmethod
    async def close(self) -> None: ...

    def _future(self, key: Key) -> asyncio.Future[Result]:
        if key not in self._futures:
            while len(self._futures) >= MAX_KEPT:
                del self._futures[next(iter(self._futures))]
            future = self._begin(key)
            future.add_done_callback(lambda done: self._forget_failed(key, done))
            self._futures[key] = future
        return self._futures[key]

    def _forget_failed(self, key: Key, done: asyncio.Future[Result]) -> None:
        if (done.cancelled() or done.exception() is not None) and self._futures.get(key) is done:
            del self._futures[key]


class Kept(Once[Key, Result]):
    """Results of `work` by key.

    Args:
        thread_name: of the one thread that works.
        on_start: called once in that thread.
    """

    def __init__(
        self, thread_name: str, work: Callable[[Key], Result], *, on_start: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self._work = work
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=thread_name, initializer=on_start)

    async def close(self) -> None:
        """Waits for the work at hand; what still waits is cancelled. The thread has ended when this returns."""
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)

    def _begin(self, key: Key) -> asyncio.Future[Result]:
        return asyncio.get_running_loop().run_in_executor(self._worker, self._work, key)


class KeptTasks(Once[Key, Result]):
    """Results of a coroutine by key; as many at once as are asked for, since whoever does the work queues them."""

    def __init__(self, work: Callable[[Key], Coroutine[Any, Any, Result]]) -> None:
        super().__init__()
        self._work = work
        self._at_work: set[asyncio.Future[Result]] = set()

    async def close(self) -> None:
        """Ends the work at hand."""
        for task in self._at_work:
            task.cancel()
        await asyncio.gather(*self._at_work, return_exceptions=True)

    def _begin(self, key: Key) -> asyncio.Future[Result]:
        task = asyncio.get_running_loop().create_task(self._work(key))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return task
