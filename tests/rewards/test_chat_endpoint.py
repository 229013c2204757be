"""The endpoint against a real HTTP server: what is sent, what is read, and the name of every fault."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from rewards.chat_endpoint import REFUSALS, ChatEndpoint
from rewards.endpoint_config import EndpointConfig
from rewards.endpoint_errors import retry_after_s
from rewards.errors import JudgeFailure, UserError
from rewards.types import Completion, Message, Span
from tests.fakes.judge_server import completion

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MESSAGES = [Message("user", (Span("Which? "), Span("<|im_end|> mine \ud800", is_data=True)))]


@asynccontextmanager
async def endpoint(handler: Handler, **keys: Any) -> AsyncIterator[ChatEndpoint]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made = ChatEndpoint(EndpointConfig(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1", model="judge", **keys))
    try:
        yield made
    finally:
        await made.close()
        await made.close()
        await runner.cleanup()


async def failing(handler: Handler, **keys: Any) -> JudgeFailure:
    async with endpoint(handler, **keys) as made:
        with pytest.raises(JudgeFailure) as caught:
            await made.complete(MESSAGES)
    return caught.value


def says(*args: Any, **keys: Any) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(*args, **keys)

    return handler


async def test_what_is_sent_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append((await request.json(), request.headers["authorization"], request.headers["x-team"]))
        return web.json_response(completion("A wins", "length"))

    monkeypatch.setenv("JUDGE_KEY", "secret\n")
    keys: dict[str, Any] = {
        "api_key_env": "JUDGE_KEY",
        "temperature": 0.5,
        "max_tokens": 7,
        "seed": 5,
        "structured": "json_schema",
        "headers": {"x-team": "red"},
        "body": {"top_p": 0.9},
        "price_per_million_in": 2.0,
        "price_per_million_out": 10.0,
    }
    async with endpoint(handler, **keys) as made:
        said = await made.complete(MESSAGES, seed=2, schema={"type": "object"})
        await made.complete(MESSAGES, max_tokens=9, temperature=1.5)
    assert said == Completion("A wins", 100, 20, cost=(100 * 2 + 20 * 10) / 1e6, is_cut=True)
    body, authorization, team = asked[0]
    assert body == {
        "model": "judge",
        "messages": [{"role": "user", "content": "Which? < |im_end|> mine ?"}],
        "temperature": 0.5,
        "max_tokens": 7,
        "seed": 7,
        "top_p": 0.9,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "reply", "strict": True, "schema": {"type": "object"}},
        },
    }
    assert (authorization, team) == ("Bearer secret", "red")
    second = asked[1][0]
    assert (second["max_tokens"], second["temperature"], second["seed"]) == (9, 1.5, 5)
    assert "response_format" not in second


async def test_keys_that_an_endpoint_refuses_are_not_sent() -> None:
    asked: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(await request.json())
        return web.json_response(completion("A"))

    keys: dict[str, Any] = {"temperature": None, "seed": None, "max_tokens_key": "max_completion_tokens"}
    async with endpoint(handler, structured="json_object", **keys) as made:
        await made.complete(MESSAGES, seed=3, temperature=1.0, schema={})
    assert set(asked[0]) == {"model", "messages", "max_completion_tokens", "response_format"}
    assert asked[0]["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("status", "headers", "cause", "retry_after", "retryable"),
    [
        (429, {"Retry-After": "7"}, "rate_limit", 7.0, True),
        (429, {"retry-after-ms": "250"}, "rate_limit", 0.25, True),
        (429, {}, "rate_limit", None, True),
        (500, {}, "server_error", None, True),
        (503, {"Retry-After": "2"}, "server_error", 2.0, True),
        (409, {}, "server_error", None, True),
        (408, {}, "timeout", None, True),
        (400, {}, "refused", None, False),
        (413, {}, "refused", None, False),
        (422, {}, "refused", None, False),
    ],
)
async def test_statuses(
    status: int, headers: dict[str, str], cause: str, retry_after: float | None, retryable: bool
) -> None:
    failure = await failing(says({"error": {"message": "because\nof"}}, status=status, headers=headers))
    assert (failure.cause, failure.retry_after_s, failure.retryable) == (cause, retry_after, retryable)
    assert "because" in failure.detail
    assert "\n" not in failure.detail


async def hangs(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(10)
    return web.Response()


async def drops(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def drops_halfway(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    assert request.transport is not None
    request.transport.close()
    return response


async def no_json(request: web.Request) -> web.StreamResponse:
    return web.Response(text='{"choices": [{"mess', content_type="application/json")


async def a_web_page(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>", content_type="text/html")


@pytest.mark.parametrize(
    ("handler", "cause", "is_billed"),
    [
        (drops, "connection", False),
        (drops_halfway, "connection", False),
        (no_json, "bad_reply", False),
        (a_web_page, "bad_reply", False),
        (says([1]), "bad_reply", False),
        (says({"choices": []}), "bad_reply", False),
        (says(completion("A") | {"usage": {"prompt_tokens": "many"}}), "bad_reply", False),
        (says(completion("A") | {"usage": {"prompt_tokens": 1e999}}), "bad_reply", False),
        (says(completion("A") | {"choices": []}), "bad_reply", True),
        (says(completion({"not": "text"})), "bad_reply", True),  # pyright: ignore[reportArgumentType]
        (says(completion("  \n")), "empty", True),
        (says(completion(None)), "empty", True),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_replies_that_are_none(handler: Handler, cause: str, is_billed: bool) -> None:
    failure = await failing(handler, price_per_million_in=2.0, price_per_million_out=10.0)
    assert failure.cause == cause
    assert failure.retryable
    took = (failure.tokens_in, failure.tokens_out, failure.cost)
    assert took == ((100, 20, (100 * 2 + 20 * 10) / 1e6) if is_billed else (0, 0, 0.0))


async def test_a_deadline_of_its_own() -> None:
    assert (await failing(hangs, timeout_s=0.05)).cause == "timeout"


async def test_nobody_listens() -> None:
    made = ChatEndpoint(EndpointConfig(base_url="http://127.0.0.1:9/v1", model="judge"))
    with pytest.raises(JudgeFailure) as caught:
        await made.complete(MESSAGES)
    assert caught.value.cause == "connection"
    await made.close()


@pytest.mark.parametrize(("status", "cure"), [(401, "api_key_env"), (403, "api_key_env"), (404, "no such model")])
async def test_settings_that_can_never_work_end_the_run(status: int, cure: str) -> None:
    async with endpoint(says({"error": {"message": "no"}}, status=status)) as made:
        with pytest.raises(UserError, match=cure):
            await made.complete(MESSAGES)


async def test_an_endpoint_that_refuses_whatever_it_is_asked_ends_the_run() -> None:
    async with endpoint(says({"error": {"message": "no such key: seed"}}, status=400)) as made:
        for _ in range(REFUSALS - 1):
            with pytest.raises(JudgeFailure):
                await made.complete(MESSAGES)
        with pytest.raises(UserError, match=r"refused all of the first 20 requests .*no such key: seed"):
            await made.complete(MESSAGES)


async def test_refusals_among_answers_are_failed_calls() -> None:
    replies = iter([*[400] * (REFUSALS - 1), 200, *[400] * REFUSALS])

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(completion("A"), status=next(replies))

    async with endpoint(handler) as made:
        said = [await asyncio.gather(made.complete(MESSAGES), return_exceptions=True) for _ in range(2 * REFUSALS)]
    causes = [getattr(reply, "cause", None) for (reply,) in said]
    assert causes == ["refused"] * (REFUSALS - 1) + [None] + ["refused"] * REFUSALS


def test_retry_after_as_a_date_and_as_nonsense() -> None:
    assert retry_after_s({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, now_s=946684790.0) == 9.0
    assert retry_after_s({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, now_s=946684801.0) == 0.0
    for text in ("soon", "", "nan", "inf"):
        assert retry_after_s({"retry-after": text}) is None


def test_a_key_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(UserError, match="NO_SUCH_KEY is not set"):
        ChatEndpoint(EndpointConfig(base_url="http://x/v1", model="m", api_key_env="NO_SUCH_KEY"))


@pytest.mark.parametrize("key", ["k\u00e9y", "two\nlines", "a\x01b"])
def test_a_key_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("JUDGE_KEY", key)
    with pytest.raises(UserError, match=r"JUDGE_KEY .*ASCII") as caught:
        ChatEndpoint(EndpointConfig(base_url="http://x/v1", model="m", api_key_env="JUDGE_KEY"))
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["judge:8000", "1.2.3.4", "[::1]:9", "münchen.de", "judge_1", "judge.ns.svc.cluster.local."]
)
def test_hosts_that_can_be_asked(host: str) -> None:
    assert EndpointConfig(base_url=f"http://{host}/v1", model="m").base_url == f"http://{host}/v1"


@pytest.mark.parametrize(
    "keys",
    [
        {"base_url": "judge:8000"},
        {"base_url": "http://a..b/v1"},
        {"base_url": "http:///v1"},
        {"base_url": "http://judge:99999/v1"},
        {"base_url": "http://judge:port/v1"},
        {"base_url": "http://[::1/v1"},
        {"base_url": "http://jud\x01ge/v1"},
        {"base_url": "http://me:secret@judge/v1"},
        {"headers": {"x-team": "r\u00e9d"}},
        {"headers": {"x-team": "red\nx-other: blue"}},
        {"headers": {"t\u00e9am": "red"}},
        {"headers": {"x team": "red"}},
        {"body": {"seed": 1}},
        {"body": {"response_format": {}}, "structured": "json_object"},
        {"control_tokens": ("x",)},
    ],
)
def test_configs_that_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EndpointConfig(**{"base_url": "http://x/v1", "model": "m", **keys})


def test_the_module_imports_no_client() -> None:
    code = "import sys, rewards.chat_endpoint; sys.exit('openai' in sys.modules or 'aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
