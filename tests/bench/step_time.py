"""One training step of podium beside one of TRL's GRPOTrainer: the same work, in turn, on the same machine.

    python -m tests.bench.step_time --trl-python .venv/peers/trl/bin/python

`make test` makes that environment; `--trl-script` takes another script with the arguments of `trl_step.py`.

Both sides: the same model, prompts, group size and forced answer lengths; reward = number of distinct characters of an
answer; AdamW. A step is the wall-clock time from one weight update to the next: sample, score, learn, sync, and on our
side the groups on disk. podium keeps float32 master weights and Adam moments beside the bf16 weights; `trl_step.py`
trains the bf16 weights themselves. Rounds alternate; the first step of each process is warm-up. Prints one JSON object;
`ratio` is TRL's median over podium's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rewards.types import Candidate, Prompt
from rollouts.models import resolve_model

ROOT = Path(__file__).parents[2]
PHASES = ("sample", "judge", "learn", "sync", "save")
WORDS = [
    *("river", "stone", "lamp", "window", "garden", "letter", "engine", "market", "winter", "bridge"),
    *("paper", "signal", "forest", "harbour", "copper"),
]


def distinct_characters(prompt: Prompt, candidate: Candidate) -> float:
    """The reward of both sides."""
    return float(len(set(candidate.text)))


def prompts(args: argparse.Namespace) -> list[str]:
    """The texts of both sides."""
    return [
        "Write about: "
        + " ".join(WORDS[(row * 7 + word * (row + 3)) % len(WORDS)] for word in range(args.prompt_words))
        for row in range(args.prompts_per_step * (args.steps + 1))
    ]


def recipe(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    return {
        "name": "step-time",
        "model": {"path": args.model},
        "task": {"kind": "freeform", "source": {"kind": "jsonl", "path": str(folder / "prompts.jsonl")}, "heldout": 1},
        "rollouts": {
            "group_size": args.group_size,
            "prompts_per_step": args.prompts_per_step,
            "max_prompt_tokens": args.prompt_words * 4 + 64,
            "max_tokens": args.max_tokens,
            "ignore_eos": True,
            "engine": {"compile": args.compile},
        },
        "rewards": {"kind": "scorer", "target": "tests.bench.step_time:distinct_characters"},
        "rl": {
            "num_steps": args.steps,
            "optimizer": {"lr": 1e-6},
            "checkpoint": {"every": 1000},
            "learner": {"micro_batch_tokens": args.micro_batch_tokens},
        },
        "evaluation": {"num_prompts": 1},
        "tracking": {"display": "plain", "wandb": {"mode": "disabled"}},
        "launch": {"storage": str(folder / "runs"), "device": "cpu"},
    }


def podium_round(args: argparse.Namespace) -> list[dict[str, float]]:
    """Seconds by phase of each step after the first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [json.dumps({"prompt": text}) for text in [*prompts(args), "Write about: held-out"]]
        (folder / "prompts.jsonl").write_text("\n".join(rows) + "\n")
        (folder / "recipe.json").write_text(json.dumps(recipe(args, folder)))
        command = [sys.executable, "-m", "launch.cli", "train", str(folder / "recipe.json")]
        subprocess.run(command, check=True, stdout=sys.stderr, stderr=sys.stderr)
        (metrics,) = folder.glob("runs/*/metrics.jsonl")
        steps = [json.loads(line) for line in metrics.read_text().splitlines()]
    # The last step also evaluates and saves a checkpoint, which is no part of a step here.
    return [{phase: step.get(f"time/{phase}_s", 0.0) for phase in PHASES} for step in steps[1:-1]]


def trl_round(args: argparse.Namespace) -> list[float]:
    """Seconds of each step after the first."""
    python = Path(args.trl_python).absolute()  # a link into an environment: not resolved
    command = [str(python), str(args.trl_script), "--model", args.model, "--steps", str(args.trl_steps)]
    command += ["--prompts-per-step", str(args.prompts_per_step), "--group-size", str(args.group_size)]
    command += ["--max-tokens", str(args.max_tokens), "--prompt-words", str(args.prompt_words)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    return json.loads(done.stdout.strip().splitlines()[-1])["step_s"][1:]


def work_arguments() -> argparse.ArgumentParser:
    """What both sides have to do in a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:smollm2-135m-instruct")
    parser.add_argument("--prompts-per-step", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--prompt-words", type=int, default=12)
    return parser


def main() -> None:
    parser = work_arguments()
    parser.add_argument("--trl-python", required=True, help="interpreter of an environment with trl==1.16.0")
    parser.add_argument(
        "--trl-script", default=ROOT / "tests/bench/trl_step.py", type=lambda path: Path(path).resolve()
    )
    parser.add_argument("--steps", type=int, default=6, help="podium's steps a round; the first and last do not count")
    parser.add_argument("--trl-steps", type=int, default=3, help="TRL's steps a round; the first does not count")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--micro-batch-tokens", type=int, default=4096)
    parser.add_argument("--compile", action="store_true", help="compile podium's engine: slower start, faster decoding")
    args = parser.parse_args()
    args.model = str(resolve_model(args.model))

    ours: list[dict[str, float]] = []
    theirs: list[float] = []
    for _ in range(args.rounds):
        ours += podium_round(args)
        theirs += trl_round(args)
    totals = [sum(step.values()) for step in ours]
    print(
        json.dumps(
            {
                "podium_step_s": totals,
                "trl_step_s": theirs,
                "podium_median_s": statistics.median(totals),
                "trl_median_s": statistics.median(theirs),
                "ratio": statistics.median(theirs) / statistics.median(totals),
                "podium_phases_s": {phase: statistics.median(step[phase] for step in ours) for phase in PHASES},
                "work": {
                    name: getattr(args, name)
                    for name in ("prompts_per_step", "group_size", "max_tokens", "prompt_words")
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
