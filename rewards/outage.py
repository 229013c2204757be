"""Is the judge down, or did this one call fail? One per judge; all its calls report here.

up ----20 failed attempts in a row, whoever made them----> down: calls wait and ask again instead of going missing
down --any reply--> up
down for `down_after_s` -----------------------------------> RunStopped
"""

from __future__ import annotations

from rewards.errors import JudgeFailure, RunStopped

IN_A_ROW = 20
"""Failed attempts without a reply between them; a judge that fails every other attempt gets there once in a million."""


class Outage:
    """Counts the attempts since a judge's last reply. Only failures that may pass count; a bad reply is a reply.

    Args:
        down_after_s: how long a judge may be down before the run stops; None: a call that failed for good is missing,
            whatever the others did.
    """

    def __init__(self, judge: str, down_after_s: float | None) -> None:
        self._judge = judge
        self._down_after_s = down_after_s
        self._failed = 0
        self._since_s = 0.0

    @property
    def is_down(self) -> bool:
        return self._down_after_s is not None and self._failed >= IN_A_ROW

    def replied(self) -> None:
        self._failed = 0

    def failed(self, failure: JudgeFailure, now_s: float) -> None:
        """Enters a failed attempt.

        Raises:
            RunStopped: the judge has been down for too long.
        """
        if not failure.retryable:
            self.replied()
            return
        if self._failed == 0:
            self._since_s = now_s
        self._failed += 1
        down_s = now_s - self._since_s
        if self.is_down and self._down_after_s is not None and down_s >= self._down_after_s:
            raise RunStopped(
                f"judge {self._judge} is down: no reply to {self._failed} attempts in {down_s:.0f} s "
                f"(last: {failure}); bring it back and go on with --resume, or raise rewards.calls.down_after_s"
            )
