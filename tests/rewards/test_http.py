"""The service over a real socket: right answers, clear refusals, limits that hold, and no 5xx for bad input."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from rewards.http_door import ServeLimits
from tests.launch.reward_plugins import MAY_SPEAK
from tests.rewards.serving import served, serving

LIMITS = ServeLimits(max_body_bytes=4000, max_group=4, max_requests=2, deadline_s=20.0, body_deadline_s=0.3)
TOKEN = {"authorization": "Bearer open sesame"}
GROUP = {"prompt": "p", "candidates": ["a", "ccc", "bb"]}
SCORE, COMPARE = "/v1/groups/score", "/v1/compare"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with (
        serving(served(needed_fields=("text",), gates=({"kind": "copy_ratio", "field": "text"},)), limits=LIMITS) as (
            url,
            _,
        ),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def group(**changes: Any) -> dict[str, Any]:
    return {**GROUP, "fields": {"text": "something else"}, **changes}


def test_a_group_is_scored(client: httpx.Client) -> None:
    reply = client.post(SCORE, json=group())
    assert reply.status_code == 200
    score = reply.json()
    assert score["rewards"] == [0.0, 1.0, 0.5]
    assert (score["num_calls"], score["num_failed"], len(score["matches"])) == (6, 0, 3)
    assert score["matches"][0]["calls"][0]["verdict"]["value"] == 0.0
    assert client.post(SCORE, json=group(matches=False)).json() == {**score, "matches": []}
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert client.post(SCORE, json=group(prompt=messages)).json()["rewards"] == [0.0, 1.0, 0.5]


def test_two_answers_are_compared(client: httpx.Client) -> None:
    asked = {"prompt": "p", "first": "long", "second": "no", "fields": {"text": "t"}}
    reply = client.post(COMPARE, json=asked)
    assert reply.status_code == 200
    assert (reply.json()["value"], reply.json()["kind"], reply.json()["failure"]) == (1.0, "hard", None)


BAD: dict[str, tuple[Any, int, str]] = {
    "no JSON": (b"{", 422, "the body is no JSON"),
    "no object": (b"[]", 422, "Input should be"),
    "no body": (b"", 422, "Field required"),
    "not UTF-8": (b'{"prompt": "\xff"}', 400, "error parsing the body"),
    "deep": (b"[" * 1500 + b"]" * 1500, 400, "error parsing the body"),
    "a number": (group(candidates=["a", 3]), 422, "candidates.1: Input should be a valid string"),
    "one answer": (group(candidates=["a"]), 422, "candidates: List should have at least 2 items"),
    "five answers": (group(candidates=["a"] * 5), 422, "candidates: List should have at most 4 items"),
    "half a surrogate": (group(candidates=["a", "\ud800"]), 422, "candidates.1: "),
    "half a surrogate as a key": (group(**{"\ud800": 1}), 422, "unable to parse raw data as a unicode string"),
    "half a surrogate as a field": (group(fields={"\ud800": "x"}), 422, "surrogate"),
    "no field": (GROUP, 422, "fields.text: is missing"),
    "unknown key": (group(x=1), 422, "x: Extra inputs are not permitted"),
    "no message": (group(prompt=[]), 422, "prompt"),
    "too large": (group(prompt="x" * 5000), 413, "larger than 4000 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line(client: httpx.Client, name: str) -> None:
    body, status, line = BAD[name]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = client.post(SCORE, content=data, headers={"content-type": "application/json"})
    assert (reply.status_code, list(reply.json())) == (status, ["error"])
    assert line in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


def test_other_paths_and_methods(client: httpx.Client) -> None:
    assert client.get("/nowhere").json() == {"error": "Not Found"}
    refused = client.get(SCORE)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_a_body_that_hides_its_length_is_cut_off_too(client: httpx.Client) -> None:
    reply = client.post(SCORE, content=(b"x" * 1000 for _ in range(100)), headers={"content-type": "application/json"})
    assert reply.status_code == 413
    assert client.get("/healthz").status_code == 200


def test_a_body_that_never_comes_is_given_up(client: httpx.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as raw:
        raw.sendall(f"POST {SCORE} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{{".encode())
        assert raw.recv(1000).startswith(b"HTTP/1.1 408")


def test_health_metrics_and_openapi(client: httpx.Client) -> None:
    client.post(SCORE, json=group())
    client.post(COMPARE, json={"prompt": "p", "first": "a", "second": "b", "fields": {"text": "t"}})
    client.get("/some/strange/path")
    assert client.get("/healthz").json() == {"status": "ok"}
    text = client.get("/metrics").text
    assert 'podium_requests_total{path="/v1/groups/score",status="200"}' in text
    assert 'outcome="verdict",purpose="scoring"' in text
    assert 'outcome="verdict",purpose="compare"' in text
    assert "strange" not in text
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {SCORE, COMPARE, "/v1/groups/gather", "/v1/openrlhf", "/healthz", "/metrics"}
    assert {"200", "401", "413", "422", "429", "503", "504"} <= paths[SCORE]["post"]["responses"].keys()


def test_without_the_token_nobody_comes_in() -> None:
    with serving(served(), token="open sesame") as (url, _), httpx.Client(base_url=url) as client:
        assert client.post(SCORE, json=GROUP, headers=TOKEN).status_code == 200
        for wrong in (None, "Bearer", "Bearer open", "Basic open sesame", "Bearer öpen sesame", "Bearer open sesamé"):
            headers = {} if wrong is None else {b"authorization": wrong.encode("latin-1")}
            for method, path in (("POST", SCORE), ("POST", COMPARE), ("GET", "/metrics"), ("GET", "/nowhere")):
                refused = client.request(method, path, content=b"x" * 100, headers=headers)
                assert refused.status_code == 401, (wrong, path)
                assert refused.headers["www-authenticate"] == "Bearer"
        assert client.get("/healthz").status_code == 200
        assert client.get("/openapi.json").json()["components"]["securitySchemes"]


def test_more_than_it_can_do_are_asked_to_come_again() -> None:
    MAY_SPEAK.clear()
    limits = ServeLimits(max_requests=2)
    with serving(served("held_back"), limits=limits) as (url, door):
        replies: list[int] = []

        def ask() -> None:
            replies.append(httpx.post(url + SCORE, json=GROUP, timeout=30).status_code)

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        while door.at_work < 2:
            time.sleep(0.01)
        refused = httpx.post(url + SCORE, json=GROUP)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert httpx.get(url + "/healthz").status_code == 200
        MAY_SPEAK.set()
        for thread in asking:
            thread.join()
        assert replies == [200, 200]
        door.is_closing = True
        closing = httpx.post(url + SCORE, json=GROUP)
        assert (closing.status_code, closing.headers["retry-after"]) == (503, "1")
        assert httpx.get(url + "/healthz").status_code == 503


def test_a_request_has_a_deadline_and_leaves_nothing_behind() -> None:
    with serving(served("stuck"), limits=ServeLimits(deadline_s=0.2)) as (url, door):
        reply = httpx.post(url + SCORE, json=GROUP)
        assert (reply.status_code, reply.json()) == (504, {"error": "no answer within 0.2 s; send less at once"})
        assert door.at_work == 0


def test_a_judge_that_is_down_is_a_503_and_a_bug_a_500() -> None:
    calls = {"backoff_s": 0.0, "down_after_s": 0.05, "max_attempts": 50}
    with serving(served("down", calls=calls)) as (url, _):
        reply = httpx.post(url + SCORE, json=GROUP, timeout=30)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "30")
        assert "is down" in reply.json()["error"]
    with serving(served("bug")) as (url, _):
        reply = httpx.post(url + SCORE, json=GROUP)
        assert reply.status_code == 500
        assert reply.json() == {"error": "internal error; the service's log says more"}
        assert httpx.get(url + "/healthz").status_code == 200


def test_a_failed_verdict_is_an_answer_without_a_value() -> None:
    with serving(served("fails_for_x")) as (url, _):
        reply = httpx.post(url + COMPARE, json={"prompt": "p", "first": "x", "second": "b"})
        assert reply.status_code == 200
        assert (reply.json()["value"], reply.json()["failure"]) == (None, "empty")
        score = httpx.post(url + SCORE, json={"prompt": "p", "candidates": ["x", "bb", "c"]}).json()
        assert (score["rewards"], score["failures"]) == ([None, 1.0, 0.0], {"empty": 4})
