"""What a reward model makes of a prompt and an answer, by transformers on CPU: a scalar, or a preference embedding.

    prompt, answer --chat template, both as data--> token ids --model--> state of the last token --head--> reading

    scalar                 one number r; r_i - r_j is the log-odds of i over j (Bradley-Terry)
    preference embedding   v in R^2k; s(i, j) = sum_b l_b (v_i[2b] v_j[2b+1] - v_i[2b+1] v_j[2b]) = -s(j, i)
                           (GPM, arXiv 2410.02197; l: scales of the blocks, from the prompt or all 1)

Shapes: H hidden size, K blocks.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewards.chat_tokens import encode_messages
from rewards.errors import JudgeFailure, UserError
from rewards.types import Message, Span

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """vector_K2: the blocks of v. scales_K: of the blocks, from the prompt; equal for answers to one prompt."""

    vector_K2: FloatArray
    scales_K: FloatArray


def preference(ours: Embedding, theirs: Embedding) -> float:
    """s(ours, theirs), > 0 if ours is better; skew-symmetric to the last bit."""
    (a_K, b_K), (c_K, d_K) = ours.vector_K2.T, theirs.vector_K2.T
    # One prompt read beside two answers gives scales that differ by rounding.
    scales_K = (ours.scales_K + theirs.scales_K) / 2.0
    return float(np.sum(scales_K * (a_K * d_K - b_K * c_K)))


class RewardReader:
    """The part that both heads share: a directory's tokenizer and one text per forward pass, so that what a text is
    worth depends on no other.

    Raises:
        UserError: the directory holds no such model, or its tokenizer has no chat template.
    """

    def __init__(self, directory: Path, auto_class: str, *, max_tokens: int):
        import torch
        import transformers

        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(directory)
            model_class = getattr(transformers, auto_class)
            loaded, report = model_class.from_pretrained(directory, dtype="auto", output_loading_info=True)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"reward model {directory}: cannot be loaded ({reason})") from error
        if missing := sorted(report["missing_keys"]):
            raise UserError(
                f"reward model {directory}: no weights for {missing[0]}; is it a reward model of this head?"
            )
        if not self._tokenizer.chat_template:
            raise UserError(f"reward model {directory}: its tokenizer has no chat template; use a model that has one")
        self._model: Any = loaded.eval()
        self._torch = torch
        self._directory = directory
        self._max_tokens = max_tokens

    def use_half_the_cores(self) -> None:
        """For the calling thread: the other half is the engines', whose threads do not give way."""
        self._torch.set_num_threads(max(1, self._torch.get_num_threads() // 2))

    def token_ids(self, prompt: str, answer: str) -> list[int]:
        """Of the finished exchange. Raises JudgeFailure if it is longer than the model may read."""
        ids = encode_messages(self._tokenizer, exchange(prompt, answer), answers=False)
        if len(ids) > self._max_tokens:
            raise JudgeFailure("refused", f"{len(ids)} tokens are more than judge.max_tokens", retryable=False)
        return ids


class ScalarReader(RewardReader):
    """Sequence classifiers with one output."""

    def __init__(self, directory: Path, *, max_tokens: int):
        super().__init__(directory, "AutoModelForSequenceClassification", max_tokens=max_tokens)
        if self._model.config.num_labels != 1:
            raise UserError(f"reward model {directory}: has {self._model.config.num_labels} outputs, not one")
        # The classifier would take a padding token for the end of the text, and an answer may end with one.
        self._model.config.get_text_config().pad_token_id = None

    def read(self, pair: tuple[str, str]) -> float:
        ids = self._torch.tensor([self.token_ids(*pair)])
        with self._torch.inference_mode():
            value = float(self._model(ids).logits[0, 0].float())
        if not math.isfinite(value):
            raise JudgeFailure("bad_reply", "the reward is not finite", retryable=False)
        return value


class EmbeddingReader(RewardReader):
    """General preference models, a base model with `PreferenceHeads` beside it."""

    def __init__(self, directory: Path, *, max_tokens: int):
        super().__init__(directory, "AutoModel", max_tokens=max_tokens)
        self._heads = PreferenceHeads(directory)

    def read(self, pair: tuple[str, str]) -> Embedding:
        ids = self.token_ids(*pair)
        num_prompt_tokens = len(encode_messages(self._tokenizer, exchange(*pair)[:1], answers=False))
        with self._torch.inference_mode():
            hidden_TH = self._model(self._torch.tensor([ids])).last_hidden_state[0].float().numpy()
        return self._heads.embedding(hidden_TH[-1], hidden_TH[num_prompt_tokens - 1])


class PreferenceHeads:
    """`value_head.weight` [2K, H] and, where block scales follow from the prompt, `prompt_head.weight` [K, H], in the
    directory's safetensors.

    Raises:
        UserError: there is no such value head.
    """

    def __init__(self, directory: Path) -> None:
        heads = read_tensors(directory, ("value_head.weight", "prompt_head.weight"))
        value_head = heads.get("value_head.weight")
        if value_head is None or value_head.shape[0] % 2:
            raise UserError(f"reward model {directory}: no value_head.weight with an even number of rows; not a GPM")
        self._value_head = value_head
        self._prompt_head = heads.get("prompt_head.weight")

    @property
    def need_the_prompt(self) -> bool:
        return self._prompt_head is not None

    def embedding(self, answer_H: NDArray[Any], prompt_H: NDArray[Any] | None) -> Embedding:
        """From the states of the last token of the exchange and of its prompt. Raises JudgeFailure if not finite."""
        vector_K2 = (self._value_head @ answer_H).reshape(-1, 2).astype(np.float64)
        if not np.isfinite(vector_K2).all():
            raise JudgeFailure("bad_reply", "the embedding is not finite", retryable=False)
        return Embedding(vector_K2, self._scales(prompt_H, len(vector_K2)))

    def _scales(self, prompt_H: NDArray[Any] | None, num_blocks: int) -> FloatArray:
        """K softmax(W h / sqrt(H)), whose mean is 1; all 1 without a prompt head."""
        if self._prompt_head is None:
            return np.ones(num_blocks)
        assert prompt_H is not None
        gates_K = (self._prompt_head @ prompt_H).astype(np.float64) / math.sqrt(len(prompt_H))
        weights_K = np.exp(gates_K - gates_K.max())
        return num_blocks * weights_K / weights_K.sum()


def exchange(prompt: str, answer: str) -> list[Message]:
    """A finished exchange; what both sides say is data."""
    return [Message("user", (Span(prompt, is_data=True),)), Message("assistant", (Span(answer, is_data=True),))]


def read_tensors(directory: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Those of the tensors that the directory's safetensors hold, as float32."""
    from safetensors import safe_open

    index = directory / "model.safetensors.index.json"
    files = dict.fromkeys(names, "model.safetensors")
    if index.is_file():
        files = {name: file for name, file in json.loads(index.read_text())["weight_map"].items() if name in names}
    found: dict[str, NDArray[Any]] = {}
    for name, file in files.items():
        if (directory / file).is_file():
            with safe_open(directory / file, "pt") as tensors:
                if name in tensors.keys():  # noqa: SIM118 - no mapping
                    found[name] = tensors.get_tensor(name).float().numpy()
    return found
