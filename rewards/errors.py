"""The exception tree of podium.

    PodiumError            anything podium raises on purpose
    ├── UserError          bad input; one clear line that names file, key and cure; exit code 2
    ├── RunStopped         the run cannot go on and says why; it can be resumed; exit code 1
    │   └── BatchRejected  ... because of what this step sampled: a resumed run samples it again
    └── JudgeFailure       one judge call gave no verdict; the arena retries, then logs a missing verdict

Everything else that reaches the surface is a bug and keeps its traceback.
"""

from __future__ import annotations


class PodiumError(Exception):
    """Base of all errors that podium raises on purpose."""


class UserError(PodiumError):
    """The input is at fault. The message is one line: what, where, cure. The CLI exits with 2."""


class RunStopped(PodiumError):
    """A run stopped itself before it could do harm. The message says why and how to go on. Exit code 1."""


class BatchRejected(RunStopped):
    """The step's groups must not be learned from, now or by a resumed run: the same would come of them again."""


class JudgeFailure(PodiumError):
    """One judge call gave no verdict.

    Args:
        cause: short counter key: "timeout", "rate_limit", "server_error", "connection", "bad_reply" or "empty".
        detail: one line for the match log.
        retry_after_s: what the server asked us to wait, if it did.
        retryable: False where asking again cannot help.
        tokens_in, tokens_out, cost: what the attempt took all the same, for instance where a reply came and was bad.
        written: as in `Verdict`.
    """

    def __init__(
        self,
        cause: str,
        detail: str = "",
        *,
        retry_after_s: float | None = None,
        retryable: bool = True,
        tokens_in: int = 0,
        tokens_out: int = 0,
        cost: float = 0.0,
        written: int = 0,
    ):
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.retryable = retryable
        self.tokens_in = tokens_in
        self.tokens_out = tokens_out
        self.cost = cost
        self.written = written
