"""What must hold at every step, and stops the run before anything is saved where it does not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rewards.errors import BatchRejected, RunStopped
from rollouts.types import Group


def check_versions(groups: Sequence[Group], *, expected: int, staleness: int = 0) -> None:
    """Every token must come from the policy that is about to be updated, or from at most `staleness` versions before.

    Raises:
        RunStopped: an engine sampled with another version, so a weight sync was skipped or lost.
    """
    oldest = max(0, expected - staleness)
    wanted = str(expected) if oldest == expected else f"{oldest} or {expected}"
    for group in groups:
        for rollout in group.rollouts:
            if rollout is None:
                continue
            wrong = [span.version for span in rollout.versions if not oldest <= span.version <= expected]
            if wrong:
                raise RunStopped(
                    f"rollout {rollout.key}/{rollout.index} was sampled by policy version {wrong[0]}, not {wanted}: "
                    "a weight sync was skipped; resume from the last checkpoint"
                )


@contextmanager
def learning(step: int) -> Iterator[None]:
    """What the learner refuses is told with the step that it belongs to: the learner counts updates, not steps."""
    try:
        yield
    except BatchRejected as error:
        raise BatchRejected(f"step {step}: {error}") from error


def check_gap(metrics: Mapping[str, float], limit: float, step: int) -> None:
    """The engines must assign the sampled tokens the probabilities that the learner does.

    Raises:
        BatchRejected: the mean gap is over the limit or not finite, so engines and learner hold different weights.
    """
    gap = metrics.get("sync/logprob_gap", 0.0)
    if not math.isfinite(gap) or gap > limit:
        raise BatchRejected(
            f"step {step}: learner and engines differ by {gap:.3g} nats per sampled token, more than "
            f"rl.max_logprob_gap = {limit}: the engines do not hold the learner's weights; nothing was saved; "
            "resume from the last checkpoint, whose weights the engines get"
        )
