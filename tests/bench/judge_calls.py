"""How fast judge calls go through: 4,000 to a local chat judge of 500 ms, 256 at once; and what a match costs the CPU.

    python -m tests.bench.judge_calls [--calls 4000] [--concurrency 256] [--latency-s 0.5] [--profile]

The server is a process of its own. What a match costs beside the HTTP client is measured without it: the arena alone
with a judge that answers at once, then with the chat judge, its prompts and its reading, over a reply from memory.
Both include the aggregation of the batch.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import math
import pstats
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.config import CallLimits
from rewards.judges import build_judge
from rewards.types import Candidate, Completion, Message, Prompt, Verdict, VerdictKind
from tests.fakes.judge_server import serving
from tests.fakes.played import Scene, chat_judge, play

NUM_CANDIDATES = 5


class NullJudge:
    """Answers at once."""

    name = "null"
    kind: VerdictKind = "hard"
    symmetric = False

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        return Verdict(float(first.text > second.text))

    async def close(self) -> None:
        pass


class Memory:
    """A completer that says the same at once."""

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int = 0,
        max_tokens: int | None = None,
        temperature: float | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        return Completion('{"reason": "It says more of what was asked for.", "winner": "A"}', 100, 20)

    async def close(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--latency-s", type=float, default=0.5)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    scene = Scene(num_groups=options.calls // (NUM_CANDIDATES * (NUM_CANDIDATES - 1)), num_candidates=NUM_CANDIDATES)
    limits = CallLimits(max_concurrency=options.concurrency)
    num_matches = scene.num_calls // 2
    config = chat_judge("http://127.0.0.1:1/v1")
    for name, judge in (("arena", NullJudge()), ("arena and chat judge", build_judge(config, completer=Memory()))):
        asyncio.run(play(scene, config, limits, judge=judge))  # imports and caches
        started_s = time.process_time()
        asyncio.run(play(scene, config, limits, judge=judge))
        spent_ms = 1000 * (time.process_time() - started_s) / num_matches
        print(f"{name}: {spent_ms:.3f} ms of CPU a match ({num_matches} matches of two calls)")
    with serving(latency_s=options.latency_s) as url:
        asyncio.run(play(Scene(num_groups=1, num_candidates=2), chat_judge(url), limits))  # imports the client
        profile = cProfile.Profile()
        if options.profile:
            profile.enable()
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        scores = asyncio.run(play(scene, chat_judge(url), limits))
        wall_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
        profile.disable()
    ideal_s = math.ceil(scene.num_calls / options.concurrency) * options.latency_s
    num_failed = sum(score.num_failed for score in scores)
    print(
        f"{scene.num_calls} calls of {options.latency_s:g} s, {options.concurrency} at once: {wall_s:.2f} s, "
        f"{wall_s / ideal_s:.2f} x the ideal {ideal_s:.2f} s; {num_failed} failed; "
        f"client {1000 * cpu_s / scene.num_calls:.2f} ms of CPU a call"
    )
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
