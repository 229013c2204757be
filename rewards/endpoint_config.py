"""Where a model is served over HTTP, in the way of OpenAI's chat completions, and how it is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, field_validator, model_validator

from rewards.strict import StrictModel

OUR_KEYS = frozenset({"messages", "model", "temperature", "max_tokens", "max_completion_tokens", "seed", "stream", "n"})
"""Keys of a request that podium writes itself."""
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class EndpointConfig(StrictModel):
    """An OpenAI-compatible endpoint: a vLLM server, another server, or a vendor."""

    base_url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    """Up to and with the version, for instance `http://judge:8000/v1`."""
    model: Annotated[str, Field(min_length=1)]
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    """Environment variable that holds the key; None: the endpoint wants none. Keys themselves stay out of recipes."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    """None: not sent, for models that refuse it."""
    max_tokens: Annotated[int, Field(ge=1, le=131_072)] = 512
    """Of one reply, its reasoning included."""
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How the endpoint calls that limit; OpenAI's reasoning models know only the second."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = 0
    """What the requests' seeds are counted from; None: none is sent, for endpoints that refuse it."""
    structured: Literal["json_schema", "json_object", "none"] = "none"
    """What the endpoint can hold a reply to (vLLM: json_schema). none: the last JSON object of the reply is read."""
    control_tokens: tuple[Annotated[str, Field(min_length=2)], ...] = ()
    """Control tokens of the served model beside the usual forms (`<|...|>`, `[INST]`, ...), which answers cannot spell
    either: in what a judge reads they are broken up by a space."""
    headers: Mapping[str, str] = {}
    """Sent along; recipes are stored with a run, so nothing secret belongs here."""
    body: Mapping[str, JsonValue] = {}
    """More keys of every request, for instance `{top_p: 0.9, chat_template_kwargs: {enable_thinking: false}}`."""
    price_per_million_in: Annotated[float, Field(ge=0)] = 0.0
    """Money for a million prompt tokens, in whatever currency the ledger is kept."""
    price_per_million_out: Annotated[float, Field(ge=0)] = 0.0
    timeout_s: Annotated[float, Field(gt=0, le=86400)] | None = None
    """Deadline of one request. None: only that of the judge call, `rewards.calls.timeout_s`, which covers all votes."""

    @property
    def has_price(self) -> bool:
        return self.price_per_million_in > 0 or self.price_per_million_out > 0

    @field_validator("base_url")
    @classmethod
    def _can_be_asked(cls, url: str) -> str:
        if not _has_host(url):
            raise ValueError("there is no such host or port; write it like http://judge:8000/v1")
        if "@" in urlsplit(url).netloc:
            raise ValueError("keys stay out of recipes; name the variable that holds it in api_key_env")
        return url

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in headers.items():
            if HEADER_NAME.fullmatch(name) is None or not (value.isascii() and value.isprintable()):
                raise ValueError(f"{name!r}: a name is ASCII without spaces, a value printable ASCII on one line")
        return headers

    @model_validator(mode="after")
    def _ours_stay_ours(self) -> Self:
        if taken := sorted(OUR_KEYS & set(self.body)):
            raise ValueError(f"body.{taken[0]}: podium sends this key itself; use the endpoint's own keys for it")
        if "response_format" in self.body and self.structured != "none":
            raise ValueError("body.response_format: `structured` sends this key; leave one of the two out")
        return self


def _has_host(url: str) -> bool:
    """Whether it names a host that can be looked up, and a port."""
    try:
        parts = urlsplit(url)
        return url.isprintable() and bool(parts.hostname and parts.hostname.encode("idna")) and parts.port != 0
    except ValueError:
        return False
