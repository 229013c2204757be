"""The reward service over HTTP: a thin FastAPI shell around sinks and a caller that somebody else made.

POST /v1/groups/score   prompt and answers --> a sink of its own --> GroupScore      one batch per request
POST /v1/groups/gather  some answers of a group --> wait for the others --> their rewards      (rewards/gathering.py)
POST /v1/openrlhf       the same in the words of OpenRLHF's remote reward client
POST /v1/compare        prompt and two answers --> one judge call --> verdict
GET  /healthz  /metrics  /openapi.json  /docs

Sinks share judge, limiter, cache and ledger; requests share nothing else. Errors are `{"error": "one line"}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Protocol

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from pydantic import BeforeValidator, Field, create_model
from starlette.exceptions import HTTPException as StarletteHTTPException

from rewards.adapters.openrlhf import RemoteRewardReply, RemoteRewardRequest, remote_reply
from rewards.calling import Caller
from rewards.errors import RunStopped, UserError
from rewards.gathering import Gathered, Gatherer, group_key
from rewards.http_door import Door, ServeLimits
from rewards.http_metrics import ServiceMetrics
from rewards.http_types import ERRORS, CompareRequest, GatherRequest, ScoreRequest, VerdictReply, whole_number
from rewards.ledger import Ledger
from rewards.texts import GroupOfTexts, Text, as_prompt, score_texts
from rewards.types import Candidate, GroupScore, GroupSink, VerdictKind

SHOWN = 300
"""Characters of an error."""
DOWN_RETRY_S = 30


class StoppableSink(GroupSink, Protocol):
    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Served:
    """What the service stands on.

    new_sink: a fresh sink per request. caller, kind: for single comparisons; None where no judge compares two.
    needed_fields: names of the prompt's fields that the rewards read.
    """

    new_sink: Callable[[], StoppableSink]
    caller: Caller | None
    kind: VerdictKind | None
    ledger: Ledger
    needed_fields: Sequence[str] = ()


def create_app(served: Served, *, limits: ServeLimits = ServeLimits(), token: str | None = None) -> Door:
    """The ASGI app.

    Args:
        token: what clients must send as a bearer token; None: nothing is asked for.
    """
    bearer = [Depends(HTTPBearer(auto_error=False))] if token is not None else []  # for the docs: the door checks it
    app = FastAPI(
        title="podium reward service",
        summary="Rewards from rankings inside a group.",
        version="1",
        redoc_url=None,
        exception_handlers=_HANDLERS,
    )
    door = Door(app, limits=limits, token=token, on_done=lambda *done: metrics.on_done(*done))
    metrics = ServiceMetrics(served.ledger, lambda: door.at_work, lambda: door.gathering)

    async def score_whole(group: GroupOfTexts) -> GroupScore:
        sink = served.new_sink()
        try:
            (scored,) = await score_texts(sink, [group])
        finally:
            await sink.stop()
        return scored

    async def score(group: ScoreRequest) -> Response:
        """Rank the answers to one prompt against each other."""
        _check_fields(group, served.needed_fields)
        scored = await score_whole(group)
        return JSONResponse(asdict(scored if group.matches else replace(scored, matches=(), rankings=())))

    # The largest group is this service's, and its schema is to say so.
    candidates = Annotated[list[Text], Field(min_length=2, max_length=limits.max_group)]
    score.__annotations__["group"] = create_model("ScoreRequest", __base__=ScoreRequest, candidates=(candidates, ...))
    app.post("/v1/groups/score", responses=ERRORS, response_model=GroupScore, dependencies=bearer)(score)

    gatherer = Gatherer(score_whole, deadline_s=limits.gather_deadline_s)

    async def gather(members: GatherRequest) -> Response:
        """Bring some answers of a group, and wait for their rewards until the group is whole."""
        _check_fields(members, served.needed_fields)
        if members.ids is not None and len(members.ids) != len(members.candidates):
            raise HTTPException(422, "ids: must be as many as the candidates")
        key = group_key(members, members.group)
        return JSONResponse(asdict(await gatherer.join(key, members, members.group_size, ids=members.ids)))

    some = Annotated[list[Text], Field(min_length=1, max_length=limits.max_group)]
    most = Annotated[int, Field(ge=2, le=limits.max_group), BeforeValidator(whole_number)]
    gather.__annotations__["members"] = create_model(
        "GatherRequest", __base__=GatherRequest, candidates=(some, ...), group_size=(most, ...)
    )
    app.post("/v1/groups/gather", responses=ERRORS, response_model=Gathered, dependencies=bearer)(gather)

    async def remote_reward(asked: RemoteRewardRequest, group_size: int) -> Response:
        """What OpenRLHF's `--reward.remote_url` asks: queries (prompt and answer in one), prompts and labels."""
        members = [one.members(served.needed_fields) for one in asked.split()]
        gathered = await asyncio.gather(*(gatherer.join(group_key(one), one, group_size) for one in members))
        return JSONResponse(remote_reply(gathered))

    remote_reward.__annotations__["group_size"] = most
    app.post("/v1/openrlhf", responses=ERRORS, response_model=RemoteRewardReply, dependencies=bearer)(remote_reward)

    @app.post("/v1/compare", responses=ERRORS, response_model=VerdictReply, dependencies=bearer)
    async def compare(pair: CompareRequest) -> Response:
        """Ask the judge about two answers, once, in the order given."""
        if served.caller is None or served.kind is None:
            raise HTTPException(422, "the rewards of this service have no judge that compares two answers")
        _check_fields(pair, served.needed_fields)
        shown = Candidate("0", pair.first), Candidate("1", pair.second)
        call = await served.caller.call(as_prompt(pair.prompt, pair.fields, ""), shown, (0, 1), seed=0)
        assert call is not None, "there is no budget that could be spent"
        served.ledger.record("compare", call)
        return JSONResponse(asdict(call.verdict) | {"kind": served.kind, "judge": call.judge})

    @app.get("/healthz", responses={503: {"model": dict[str, str], "description": "the service is closing"}})
    async def healthz() -> JSONResponse:
        """Whether requests are taken."""
        if door.is_closing:
            return JSONResponse({"status": "closing"}, 503)
        return JSONResponse({"status": "ok"})

    refusals: dict[int | str, dict[str, Any]] = {status: ERRORS[status] for status in (401, 429, 503)}

    refusals[200] = {
        "content": {"text/plain": {"schema": {"type": "string"}}},
        "description": "Prometheus' text format",
    }

    @app.get("/metrics", response_class=Response, responses=refusals, dependencies=bearer)
    async def prometheus() -> Response:
        """Requests, judge calls, tokens and money, for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return door


def _check_fields(asked: GroupOfTexts | CompareRequest, needed: Sequence[str]) -> None:
    for name in needed:
        if name not in asked.fields:
            raise HTTPException(422, f"fields.{name}: is missing, and the rewards read it")


def _error(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """ASCII on one line: what a client sent may stand in it, half surrogates and all."""
    text = " ".join(reason.split()).encode("ascii", "backslashreplace").decode()
    return JSONResponse({"error": text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."}, status, headers)


async def _on_bad_input(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    if fault["type"] == "json_invalid":
        return _error(422, f"the body is no JSON: {fault.get('ctx', {}).get('error', fault['msg'])}")
    place = ".".join(str(part) for part in fault["loc"] if part != "body")
    return _error(422, f"{place}: {fault['msg']}" if place else str(fault["msg"]))


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    return _error(error.status_code, str(error.detail), error.headers)


async def _on_stopped(request: Request, error: Exception) -> JSONResponse:
    return _error(503, str(error), {"retry-after": str(DOWN_RETRY_S)})


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    """The service's recipe or code is at fault, not the request; uvicorn logs the traceback."""
    line = str(error) if isinstance(error, UserError) else "internal error; the service's log says more"
    return _error(500, line)


_HANDLERS: dict[int | type[Exception], Any] = {
    RequestValidationError: _on_bad_input,
    StarletteHTTPException: _on_http,
    RunStopped: _on_stopped,
    UserError: _on_bug,
    Exception: _on_bug,
}
