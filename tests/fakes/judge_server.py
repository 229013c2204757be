"""A judge behind real HTTP, in a process of its own, that fails as it is told.

    python -m tests.fakes.judge_server --latency-s 0.5 --fault-share 0.2 --seed 1      prints its port

It reads the texts between the fences of a prompt and prefers the larger `quality N`. What a request meets follows
from the seed, its messages and how often they were asked before, not from who came first.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

FAULTS = ("hang", "rate_limit", "server_error", "cut_json", "cut_http", "wrong_label", "drop")
TEXT = re.compile(r"\[text ([0-9a-f]{8})\]\n(.*?)\n\[end \1\]", re.DOTALL)


class JudgeServer:
    """hang_s: how long a hanging reply takes. num_faults: how often each fault was met."""

    def __init__(self, *, latency_s: float = 0.0, fault_share: float = 0.0, hang_s: float = 60.0, seed: int = 0):
        self._latency_s, self._fault_share, self._hang_s, self._seed = latency_s, fault_share, hang_s, seed
        self._asked: Counter[str] = Counter()
        self.num_faults: Counter[str] = Counter()
        self.num_requests = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_get("/stats", self.stats)
        return app

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response({"num_requests": self.num_requests, "num_faults": dict(self.num_faults)})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.num_requests += 1
        about = json.dumps(body["messages"])
        self._asked[about] += 1
        fault = self._fault(about, self._asked[about])
        if fault is not None:
            self.num_faults[fault] += 1
        if fault == "hang":
            await asyncio.sleep(self._hang_s)
        elif self._latency_s:
            await asyncio.sleep(self._latency_s)
        if fault == "rate_limit":
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.01"})
        if fault == "server_error":
            return web.json_response({"error": {"message": "oops"}}, status=500)
        if fault == "drop":
            assert request.transport is not None
            request.transport.abort()
        verdict = json.dumps(_verdict(body, wrong=fault == "wrong_label"))
        reply = completion(verdict[: len(verdict) // 2] if fault == "cut_json" else verdict)
        if fault == "cut_http":
            text = json.dumps(reply)
            return web.Response(text=text[: len(text) // 2], content_type="application/json")
        return web.json_response(reply)

    def _fault(self, about: str, attempt: int) -> str | None:
        digest = hashlib.sha256(f"{self._seed} {attempt} {about}".encode()).digest()
        draw = int.from_bytes(digest[:8], "big") / 2**64
        if draw >= self._fault_share:
            return None
        return FAULTS[int(draw / self._fault_share * len(FAULTS))]


def completion(content: str | None, finish_reason: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


def _verdict(body: dict[str, Any], *, wrong: bool) -> dict[str, Any]:
    texts = [text for _, text in TEXT.findall("\n".join(message["content"] for message in body["messages"]))]
    first, second = (float(text.rpartition("quality ")[2]) for text in texts[-2:])
    winner = "Z" if wrong else "A" if first > second else "B" if second > first else "tie"
    return {"reason": f"{first:g} against {second:g}", "winner": winner}


@contextmanager
def serving(**options: float) -> Iterator[str]:
    """The base URL of a server in a process of its own, which ends with the context. Options as `JudgeServer`'s."""
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "tests.fakes.judge_server", *flags]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


async def _serve(judge: JudgeServer) -> None:
    runner = web.AppRunner(judge.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("latency", "hang"):
        parser.add_argument(f"--{name}-s", type=float, default=0.0 if name == "latency" else 60.0)
    parser.add_argument("--fault-share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    asyncio.run(_serve(JudgeServer(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
