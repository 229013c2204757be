"""A fifth of all judge calls fail in mixed ways: what is lost, what is invented, and how far rewards move.

    python -m tests.bench.judge_faults [--groups 32] [--share 0.2]

The judge is an HTTP server in a process of its own that times out, asks to slow down, breaks, cuts its JSON or its
reply off, names a label that there is not, and drops the line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import urllib.request
from collections import Counter

from rewards.config import CallLimits
from tests.fakes.judge_server import serving
from tests.fakes.played import Scene, chat_judge, correlation, invented, play


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    scene = Scene(num_groups=options.groups, num_candidates=8, seed=options.seed)
    with serving() as url:
        well = asyncio.run(play(scene, chat_judge(url), CallLimits(backoff_s=0.0)))
    print(f"{scene.num_groups} groups of {scene.num_candidates}, {scene.num_calls} calls, {options.share:.0%} fail")
    print("attempts  requests  missing  groups lost  rollouts unscored  invented  correlation  missing by cause")
    for max_attempts in (1, 2, 4):
        limits = CallLimits(max_concurrency=128, timeout_s=1.0, backoff_s=0.01, max_attempts=max_attempts)
        with serving(fault_share=options.share, seed=options.seed) as url:
            ill = asyncio.run(play(scene, chat_judge(url), limits))
            with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as reply:
                stats = json.load(reply)
        causes = sum((Counter(score.failures) for score in ill), Counter[str]())
        print(
            f"{max_attempts:8}  {stats['num_requests']:8}  {sum(score.num_failed for score in ill):7}  "
            f"{sum(score.num_scored < 2 for score in ill):11}  "
            f"{sum(score.rewards.count(None) for score in ill):17}  "
            f"{invented(scene, ill):8}  {correlation(ill, well):11.4f}  {dict(sorted(causes.items()))}"
        )
    print(f"faults met with 4 attempts: {stats['num_faults']}")


if __name__ == "__main__":
    main()
