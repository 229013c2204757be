"""A run's prompts as token ids, and the requests of each step: pure functions of (run seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from recipes.schema import Recipe
from rewards.errors import UserError
from rewards.types import GroupKey, Prompt
from rollouts.chat import encode_prompt
from rollouts.prompts import prompt_order, refill_order
from rollouts.seeds import rollout_seed
from rollouts.types import Group, GroupRequest, IntArray, SamplingSpec, Task


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPrompt:
    prompt: Prompt
    token_ids: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class RunPrompts:
    """Training and held-out prompts of a run, encoded once."""

    recipe: Recipe
    train: tuple[EncodedPrompt, ...]
    heldout: tuple[EncodedPrompt, ...]

    @classmethod
    def encode(cls, recipe: Recipe, task: Task, tokenizer: PreTrainedTokenizerBase) -> RunPrompts:
        """Apply the chat template to every prompt.

        Raises:
            UserError: too few prompts, a held-out one that comes twice, or one that is longer than
                `rollouts.max_prompt_tokens`.
        """
        train, heldout = task.train_prompts(), task.heldout_prompts()
        if len(train) < recipe.rollouts.prompts_per_step:
            raise UserError(
                f"task: {len(train)} training prompts are fewer than rollouts.prompts_per_step = "
                f"{recipe.rollouts.prompts_per_step}; add prompts or lower it"
            )
        if len(heldout) < recipe.evaluation.num_prompts:
            raise UserError(
                f"task: {len(heldout)} held-out prompts are fewer than evaluation.num_prompts = "
                f"{recipe.evaluation.num_prompts}; hold out more in your task, or lower evaluation.num_prompts"
            )
        limit = recipe.rollouts.max_prompt_tokens
        return cls(
            recipe=recipe,
            train=_encode(train, tokenizer, limit),
            heldout=_encode(_each_once(heldout[: recipe.evaluation.num_prompts]), tokenizer, limit),
        )

    def check_answered(self, start_answers: Sequence[Group] | None) -> None:
        """Raises UserError if a resumed run's starting model answered other held-out prompts, or each another number
        of times: nobody could meet its answers."""
        if start_answers is None:
            return
        then = [(group.prompt.id, len(group.rollouts)) for group in start_answers]
        now = [(request.prompt.id, len(request.seeds)) for request in self.heldout_requests(0)]
        if then != now:
            raise UserError(
                f"evaluation: the held-out prompts ({len(now)}, {now[0][1]} answers each) are not those that the run's "
                f"starting model answered ({len(then)}, {then[0][1]} answers each, evaluation/start.parquet); go back "
                "to the run's prompt file, seed, evaluation.num_prompts and .rollouts_per_prompt, or start a new run"
            )

    def train_requests(self, step: int) -> list[GroupRequest]:
        """The groups of a training step: prompts in the run's shuffled order, a new order each epoch."""
        recipe = self.recipe
        order = prompt_order(len(self.train), recipe.seed, step - 1, recipe.rollouts.prompts_per_step)
        return self._train_requests(step, f"step{step}", order)

    def refill_requests(self, step: int, refill: int, num: int) -> list[GroupRequest]:
        """The `num` groups of a training step's refill 1, 2, ..: other prompts, in an order of their own."""
        recipe = self.recipe
        per_step = recipe.rollouts.prompts_per_step
        order = refill_order(len(self.train), recipe.seed, step - 1, per_step, refill=refill, num=num)
        return self._train_requests(step, f"step{step}-refill{refill}", order)

    def _train_requests(self, step: int, name: str, order: IntArray) -> list[GroupRequest]:
        recipe = self.recipe
        sampling = SamplingSpec(
            max_tokens=recipe.rollouts.max_tokens,
            temperature=recipe.rollouts.temperature,
            ignore_eos=recipe.rollouts.ignore_eos,
            stop=recipe.rollouts.stop,
        )
        return [
            _request(self.train[index], f"{name}-{slot}", recipe.rollouts.group_size, recipe.seed, step, sampling)
            for slot, index in enumerate(order)
        ]

    def heldout_requests(self, step: int) -> list[GroupRequest]:
        """The held-out prompts, sampled anew after `step`; step 0 is the starting model."""
        recipe = self.recipe
        sampling = SamplingSpec(
            max_tokens=recipe.rollouts.max_tokens,
            temperature=recipe.evaluation.temperature,
            ignore_eos=recipe.rollouts.ignore_eos,
            stop=recipe.rollouts.stop,
        )
        return [
            _request(
                encoded,
                f"heldout{step}-{slot}",
                recipe.evaluation.rollouts_per_prompt,
                recipe.seed,
                step,
                sampling,
            )
            for slot, encoded in enumerate(self.heldout)
        ]


def _each_once(heldout: Sequence[Prompt]) -> Sequence[Prompt]:
    ids = [prompt.id for prompt in heldout]
    if twice := {prompt_id for prompt_id in ids if ids.count(prompt_id) > 1}:
        raise UserError(f"task: held-out prompt {min(twice)} comes twice; give each prompt once, or an id of its own")
    return heldout


def _encode(prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, limit: int) -> tuple[EncodedPrompt, ...]:
    encoded = tuple(EncodedPrompt(prompt, encode_prompt(tokenizer, prompt.messages)) for prompt in prompts)
    longest = max(encoded, key=lambda one: len(one.token_ids), default=None)
    if longest is not None and len(longest.token_ids) > limit:
        raise UserError(
            f"prompt {longest.prompt.id} has {len(longest.token_ids)} tokens, more than rollouts.max_prompt_tokens = "
            f"{limit}; raise it or shorten the prompt ({longest.prompt.text[:60]!r}...)"
        )
    return encoded


def _request(
    encoded: EncodedPrompt, group_id: str, num_rollouts: int, run_seed: int, step: int, sampling: SamplingSpec
) -> GroupRequest:
    return GroupRequest(
        key=GroupKey(group_id),
        prompt=encoded.prompt,
        prompt_token_ids=encoded.token_ids,
        seeds=tuple(rollout_seed(run_seed, step, group_id, index) for index in range(num_rollouts)),
        sampling=sampling,
    )
