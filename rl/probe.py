"""A fresh look at the engines after a sync: a few tokens sampled by the new weights, against the learner's own word.

Where rollouts are a version old, engine and learner differ on them by what was learned since, so they cannot tell a
sync that went wrong.

requests, one per engine --sample--> a few tokens each --Learner.logprobs--> |learner - engine|, the alarm's number
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rewards.types import GroupKey
from rl.alarms import check_versions
from rl.seams import Engines, Learner
from rl.types import TrainGroup, TrainRollout
from rollouts.types import Group, GroupRequest

MAX_TOKENS = 64


def probe_requests(requests: Sequence[GroupRequest], step: int, *, num: int) -> list[GroupRequest]:
    """`num` groups of one short rollout, their prompts and seeds from `requests`: one for each engine."""
    chosen = [requests[index % len(requests)] for index in range(num)]
    return [
        replace(
            request,
            key=GroupKey(f"probe{step}-{index}"),
            seeds=request.seeds[:1],
            sampling=replace(request.sampling, max_tokens=min(MAX_TOKENS, request.sampling.max_tokens)),
        )
        for index, request in enumerate(chosen)
    ]


async def probe(
    requests: Sequence[GroupRequest], engines: Engines, learner: Learner, *, version: int
) -> dict[str, float] | None:
    """The gap between engines and learner, both at `version`; None if no rollout came back.

    Raises:
        RunStopped: an engine has another version.
    """
    answers = await engines.sample(requests)
    check_versions(answers, expected=version)
    groups = probe_groups(answers)
    return gap_metrics(groups, await learner.logprobs(groups)) if groups else None


def probe_groups(groups: Sequence[Group]) -> list[TrainGroup]:
    """The rollouts that came back, for `Learner.logprobs`; nothing is learned from them."""
    return [
        TrainGroup(
            index,
            group.prompt_token_ids,
            tuple(
                TrainRollout(
                    token_ids=rollout.token_ids,
                    loss_mask=rollout.loss_mask,
                    advantages=np.zeros(rollout.num_tokens, dtype=np.float32),
                    segment_ids=np.full(rollout.num_tokens, -1, dtype=np.int32),
                    rollout_logprobs=rollout.logprobs,
                )
                for rollout in group.rollouts
                if rollout is not None
            ),
        )
        for index, group in enumerate(groups)
        if any(rollout is not None and rollout.num_tokens > 0 for rollout in group.rollouts)
    ]


def gap_metrics(groups: Sequence[TrainGroup], logprobs: Sequence[np.ndarray]) -> dict[str, float]:
    """|learner - engine| over the loss tokens, in nats; logprobs: the learner's, per rollout in the groups' order."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    gaps = np.concatenate(
        [
            np.abs(own - rollout.rollout_logprobs)[rollout.loss_mask]
            for own, rollout in zip(logprobs, rollouts, strict=True)
        ]
    )
    return {"sync/logprob_gap": float(gaps.mean()), "sync/logprob_gap_max": float(gaps.max())}
