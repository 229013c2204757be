"""A model behind an OpenAI-compatible endpoint: messages in, text out, and every fault under its own name.

judge --complete--> ChatEndpoint --openai over aiohttp, no retries of its own--> HTTP server
                         |
                         +-- JudgeFailure: timeout, rate_limit, server_error, connection, bad_reply, empty, refused
                         +-- UserError: the key, the model's name or every request is refused

Who calls decides about retries (`rewards/calling.py`). openai is imported when the first endpoint is made.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.control_tokens import broken_up
from rewards.endpoint_config import EndpointConfig
from rewards.endpoint_errors import error_line, failure_of
from rewards.errors import JudgeFailure, UserError
from rewards.types import Completion, Message

MANY_CONNECTIONS = {"max_connections": 65536, "max_keepalive_connections": 65536}
"""The arena's limiter bounds calls; a second bound here would only make them wait where nobody counts."""
REFUSALS = 20
"""So many requests refused and none answered: it is the requests' form, not what is in them."""


class ChatEndpoint:
    """Implements `rewards.types.Completer`. Used from one event loop; closed by whoever made it.

    Raises:
        UserError: the variable that is to hold the key is not set, or holds what cannot be one.
    """

    def __init__(self, config: EndpointConfig):
        import openai

        self.config = config
        self._refused = 0
        self._answered = False
        self._client: Any = openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=_api_key(config),
            max_retries=0,
            default_headers=dict(config.headers),
            timeout=None,  # ours: the transport's would start anew with every chunk
            http_client=openai.DefaultAioHttpClient(
                timeout=None, limits=type(openai.DEFAULT_CONNECTION_LIMITS)(**MANY_CONNECTIONS)
            ),
        )

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int = 0,
        max_tokens: int | None = None,
        temperature: float | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        """One reply.

        Args:
            seed: counted from the config's. max_tokens, temperature: default: the config's.
            schema: JSON Schema that the reply is held to, as far as the endpoint can (`structured`).

        Raises:
            JudgeFailure: no reply, or an empty one. A reply that ran into `max_tokens` is a reply.
            UserError: the endpoint refuses the key or knows no such model, or refuses whatever it is asked.
        """
        body = self._body(messages, seed, max_tokens, temperature, schema)
        deadline = asyncio.timeout(self.config.timeout_s)
        try:
            async with deadline:
                reply = await self._post(body)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise JudgeFailure("timeout", f"no reply within {self.config.timeout_s:g} s") from None
        self._answered = True
        return self._completion(reply)

    async def close(self) -> None:
        """Ends the connections; twice is once."""
        await self._client.close()

    async def _post(self, body: Mapping[str, Any]) -> Any:
        """The reply's JSON as it came: the SDK's typed methods cost more than all the rest of a call."""
        import openai

        try:
            return await self._client.post("/chat/completions", body=body, cast_to=object)
        except openai.APIError as error:
            raise self._failure(error) from error
        except ValueError as error:
            raise JudgeFailure("bad_reply", f"the reply is no JSON: {error}") from error

    def _body(
        self,
        messages: Sequence[Message],
        seed: int,
        max_tokens: int | None,
        temperature: float | None,
        schema: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        config = self.config
        body: dict[str, Any] = {
            **config.body,
            "model": config.model,
            "messages": [{"role": message.role, "content": self.content(message)} for message in messages],
            config.max_tokens_key: max_tokens or config.max_tokens,
        }
        if config.temperature is not None:
            body["temperature"] = config.temperature if temperature is None else temperature
        if config.seed is not None:
            body["seed"] = (config.seed + seed) % 2**31
        if schema is not None and config.structured == "json_schema":
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "strict": True, "schema": schema},
            }
        elif schema is not None and config.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def content(self, message: Message) -> str:
        texts = (
            broken_up(span.text, self.config.control_tokens) if span.is_data else span.text for span in message.spans
        )
        return as_utf8("".join(texts))

    def _completion(self, reply: Any) -> Completion:
        """Raises JudgeFailure where the reply is not of the form that OpenAI's API describes."""
        took: dict[str, Any] = {}
        try:
            took = self._took(reply.get("usage") or {})
            choice = reply["choices"][0]
            text = choice["message"]["content"]
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise JudgeFailure("bad_reply", f"no chat completion: {json.dumps(reply)[:200]}", **took) from error
        if text is not None and not isinstance(text, str):
            raise JudgeFailure("bad_reply", f"a message's content is text, got {json.dumps(text)[:200]}", **took)
        if not text or not text.strip():
            raise JudgeFailure("empty", f"finish_reason {choice.get('finish_reason')}", **took)
        return Completion(text, **took, is_cut=choice.get("finish_reason") == "length")

    def _took(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """Tokens and money, which a reply that is no use takes all the same."""
        tokens_in, tokens_out = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        cost = tokens_in * self.config.price_per_million_in + tokens_out * self.config.price_per_million_out
        return {"tokens_in": tokens_in, "tokens_out": tokens_out, "cost": cost / 1e6}

    def _failure(self, error: Any) -> Exception:
        failure = failure_of(error)
        if isinstance(failure, UserError):
            return UserError(f"endpoint {self.config.base_url}, model {self.config.model}: {failure}")
        if failure.cause == "refused" and not self._answered:
            self._refused += 1
            if self._refused >= REFUSALS:
                return UserError(
                    f"endpoint {self.config.base_url}, model {self.config.model}: refused all of the first "
                    f"{self._refused} requests (last: {error_line(error)}); mend the judge's keys or shorten the texts"
                )
        return failure


def as_utf8(text: str) -> str:
    """The text with lone surrogates, which JSON on the wire cannot carry, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _api_key(config: EndpointConfig) -> str:
    if config.api_key_env is None:
        return "none"
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise UserError(
            f"endpoint {config.base_url}: environment variable {config.api_key_env} is not set; it is to hold the key"
        )
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            f"endpoint {config.base_url}: environment variable {config.api_key_env} holds no key that can be sent; "
            "a key is printable ASCII on one line"
        )
    return key
