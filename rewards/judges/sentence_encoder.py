"""Sentence embeddings by a transformers encoder on CPU: mean over the tokens, scaled to length one.

Shape letters: N texts, T tokens, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rewards.errors import UserError

FloatArray = npt.NDArray[np.float32]


class SentenceEncoder:
    """Loads a model that pools by the mean (all-MiniLM, mpnet, ...).

    Args:
        directory: in the Hugging Face layout.
        max_tokens: longer texts are cut.
        batch_size: texts of one forward pass.

    Raises:
        UserError: the directory holds no such model, or it pools in another way.
    """

    def __init__(self, directory: Path, *, max_tokens: int, batch_size: int):
        import torch
        from transformers import AutoModel, AutoTokenizer

        _check_pooling(directory)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(directory)
            self._model: Any = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"embedding model {directory}: cannot be loaded ({reason})") from error
        context = self._model.config.max_position_embeddings
        if max_tokens > context:
            raise UserError(f"judge.max_tokens = {max_tokens}: {directory} reads at most {context} tokens; lower it")
        self._torch = torch
        self._max_tokens = max_tokens
        self._batch_size = batch_size

    def use_half_the_cores(self) -> None:
        """For the calling thread: the other half is the engines', whose threads do not give way."""
        self._torch.set_num_threads(max(1, self._torch.get_num_threads() // 2))

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Unit vectors [N, D]. A text's vector does not depend on the texts beside it (but for float32 rounding)."""
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors_ND = np.empty((len(texts), self._model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(texts), self._batch_size):
            batch = by_length[start : start + self._batch_size]
            vectors_ND[batch] = self._encode_batch([texts[index] for index in batch])
        return vectors_ND

    def _encode_batch(self, texts: list[str]) -> FloatArray:
        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt")
        with self._torch.inference_mode():
            hidden_NTD = self._model(**inputs).last_hidden_state
            mask_NT1 = inputs["attention_mask"].unsqueeze(-1).to(hidden_NTD.dtype)
            mean_ND = (hidden_NTD * mask_NT1).sum(1) / mask_NT1.sum(1).clamp(min=1)
            return self._torch.nn.functional.normalize(mean_ND, dim=-1).numpy()


def _check_pooling(directory: Path) -> None:
    """sentence-transformers writes down how a model pools; a model without that file is taken to pool by the mean."""
    file = directory / "1_Pooling" / "config.json"
    if file.is_file() and not json.loads(file.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens", True):
        raise UserError(f"{file}: this model does not pool by the mean of its tokens; use one that does")
