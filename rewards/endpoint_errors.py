"""What an endpoint's fault is called, and whether asking again can help.

timeout       no reply in time                     rate_limit   429, with what Retry-After asks for
server_error  5xx, 409                             connection   refused, dropped, or cut off in the middle
refused       400, 413, 422: this request is not   UserError    401, 403, 404: none will be
              wanted (too long, filtered)
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from rewards.errors import JudgeFailure, UserError

if TYPE_CHECKING:
    import openai

WRONG_SETTINGS = {
    401: "it refuses the key; check api_key_env",
    403: "it refuses this key for this model; check api_key_env and model",
    404: "it knows no such model or address; check model, and that base_url ends with the version (`/v1`)",
}


def failure_of(error: openai.APIError) -> JudgeFailure | UserError:
    """The failure that stands for an error of the SDK."""
    import openai

    line = error_line(error)
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        if status in WRONG_SETTINGS:
            return UserError(f"{WRONG_SETTINGS[status]} ({line})")
        if status == 429:
            return JudgeFailure("rate_limit", line, retry_after_s=retry_after_s(error.response.headers))
        if status == 408:
            return JudgeFailure("timeout", line)
        if status == 409 or status >= 500:
            return JudgeFailure("server_error", line, retry_after_s=retry_after_s(error.response.headers))
        return JudgeFailure("refused", line, retryable=False)
    if isinstance(error, openai.APITimeoutError) and not _was_dropped(error):
        return JudgeFailure("timeout", line)
    if isinstance(error, openai.APIConnectionError):
        return JudgeFailure("connection", line)
    return JudgeFailure("bad_reply", line)


def retry_after_s(headers: Mapping[str, str], now_s: float | None = None) -> float | None:
    """Seconds that `Retry-After` (a number, or a date as in RFC 9110) or `retry-after-ms` asks for, None without it."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1000.0
        elif (text := headers.get("retry-after")) is None:
            return None
        elif text.strip().replace(".", "", 1).isdigit():
            seconds = float(text)
        else:
            seconds = parsedate_to_datetime(text).timestamp() - (time.time() if now_s is None else now_s)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def error_line(error: Exception) -> str:
    """One bounded line: the SDK's message, and what lies under it."""
    below = error.__cause__
    text = f"{error} ({type(below).__name__}: {below})" if below is not None else str(error)
    return " ".join(text.split())[:300]


def _was_dropped(error: BaseException) -> bool:
    """The SDK's transport calls every lost connection a timeout of connecting; aiohttp's own error below knows."""
    import aiohttp

    cause = error.__cause__
    while cause is not None:
        if isinstance(cause, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
            return not isinstance(cause, asyncio.TimeoutError)
        cause = cause.__cause__
    return False
