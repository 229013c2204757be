"""Steps of TRL's GRPOTrainer on a CPU, as `step_time.py` runs them beside podium's own. With trl==1.16.0 installed:

    PYTHONPATH=. python tests/bench/trl_step.py --model DIR --steps 3

Generation is transformers' own, answers are forced to their full length, and the bf16 weights themselves are trained.
Prints one JSON object: seconds of each optimiser step, the first of which is warm-up.
"""

from __future__ import annotations

import json
import tempfile
import time
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportMissingImports]

from rewards.types import Candidate, Prompt
from tests.bench.step_time import distinct_characters, prompts, work_arguments


class Stopwatch(TrainerCallback):
    def __init__(self) -> None:
        self.step_s: list[float] = []
        self._started = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.step_s.append(time.perf_counter() - self._started)


def reward(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    return [distinct_characters(Prompt("", ""), Candidate("", messages[0]["content"])) for messages in completions]


def main() -> None:
    parser = work_arguments()
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=args.model,
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=args.prompts_per_step * args.group_size,
                num_generations=args.group_size,
                max_completion_length=args.max_tokens,
                generation_kwargs={"min_new_tokens": args.max_tokens},
                max_steps=args.steps,
                learning_rate=1e-6,
                beta=0.0,
                use_cpu=True,
                bf16=True,
                model_init_kwargs={"dtype": "bfloat16"},
                gradient_checkpointing=False,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict(
                {"prompt": [[{"role": "user", "content": text}] for text in prompts(args)]}
            ),
            callbacks=[stopwatch],
        )
        trainer.train()
    print(json.dumps({"step_s": stopwatch.step_s}))


if __name__ == "__main__":
    main()
