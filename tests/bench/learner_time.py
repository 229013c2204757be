"""Seconds of one learner step: forward, backward and update of groups with forced lengths, through the real Learner.

    python -m tests.bench.learner_time --model package:smollm2-135m-instruct --prompts 4 --group-size 8 --max-tokens 64

Prints one JSON line: medians over the steps after the first. `--compare` times, in alternation with it and on the same
batch, the plain way: every rollout with its own prompt, one group per forward pass, all logits in float32 at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import statistics
import time
from typing import Any

import numpy as np

from rl.config import LearnerConfig, OptimizerConfig, RLConfig
from rl.objectives import Objective
from rl.types import TrainGroup, TrainRollout

OBJECTIVE = Objective(
    kind="dapo",
    advantage="constant",
    ratio_level="token",
    clip_low=0.2,
    clip_high=0.28,
    aggregation="token",
    constant_tokens=None,
    kl_coef=0.0,
)


def make_groups(args: argparse.Namespace, vocab_size: int) -> list[TrainGroup]:
    rng = np.random.default_rng(args.seed)

    def rollout() -> TrainRollout:
        return TrainRollout(
            token_ids=rng.integers(0, vocab_size, args.max_tokens).astype(np.int32),
            loss_mask=np.ones(args.max_tokens, dtype=bool),
            advantages=np.full(args.max_tokens, rng.normal(), dtype=np.float32),
            segment_ids=np.full(args.max_tokens, -1, dtype=np.int32),
            rollout_logprobs=np.zeros(args.max_tokens, dtype=np.float32),
        )

    return [
        TrainGroup(
            index,
            rng.integers(0, vocab_size, args.prompt_tokens).astype(np.int32),
            tuple(rollout() for _ in range(args.group_size)),
        )
        for index in range(args.prompts)
    ]


def plain_step_s(model: Any, groups: list[TrainGroup]) -> float:
    """Forward and backward of the comparison."""
    import torch

    started = time.perf_counter()
    for group in groups:
        answers = np.stack([rollout.token_ids for rollout in group.rollouts])
        prompts = np.broadcast_to(group.prompt_token_ids, (len(answers), len(group.prompt_token_ids)))
        ids = torch.from_numpy(np.concatenate([prompts, answers], axis=1).astype(np.int64))
        logits = model(input_ids=ids, use_cache=False).logits[:, prompts.shape[1] - 1 : -1].float()
        logprobs = logits.log_softmax(-1).gather(2, torch.from_numpy(answers.astype(np.int64))[..., None])
        logprobs.sum().backward()
    seconds = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:smollm2-135m-instruct")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=36)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--zero-stage", type=int, default=LearnerConfig().zero_stage)
    parser.add_argument("--dtype", default=LearnerConfig().dtype)
    parser.add_argument("--micro-batch-tokens", type=int, default=LearnerConfig().micro_batch_tokens)
    parser.add_argument("--logprob-chunk", type=int, default=LearnerConfig().logprob_chunk)
    parser.add_argument("--no-share-prompt", action="store_true")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compare", action="store_true")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)

    import torch
    from transformers import AutoModelForCausalLM

    from rl.learner import Learner
    from rollouts.models import resolve_model

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    model_dir = resolve_model(args.model)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    learner = Learner(
        model_dir,
        RLConfig(
            num_steps=100,
            optimizer=OptimizerConfig(lr=1e-6),
            learner=LearnerConfig(
                zero_stage=args.zero_stage,
                dtype=args.dtype,
                micro_batch_tokens=args.micro_batch_tokens,
                logprob_chunk=args.logprob_chunk,
                share_prompt=not args.no_share_prompt,
                cpu_threads=args.threads,
            ),
        ),
        objective=OBJECTIVE,
        temperature=1.0,
        master_port=port,
    )
    plain = None
    if args.compare:
        plain = AutoModelForCausalLM.from_pretrained(model_dir, dtype=getattr(torch, args.dtype))
    groups = make_groups(args, vocab_size=learner.model.config.vocab_size)
    rows: list[dict[str, float]] = []
    for _ in range(args.steps + 1):
        started = time.perf_counter()
        metrics = learner.step(groups)
        row = {"step_s": time.perf_counter() - started}
        row |= {key: metrics[f"time/{key}"] for key in ("forward_backward_s", "update_s")}
        if plain is not None:
            row["plain_forward_backward_s"] = plain_step_s(plain, groups)
        rows.append(row)
    medians = {key: round(statistics.median(row[key] for row in rows[1:]), 3) for key in rows[0]}
    if plain is not None:
        ratios = [row["plain_forward_backward_s"] / row["forward_backward_s"] for row in rows[1:]]
        medians["ratio"] = round(statistics.median(ratios), 2)
    print(json.dumps(medians | {"load": os.getloadavg()[0]} | vars(args)))


if __name__ == "__main__":
    main()
