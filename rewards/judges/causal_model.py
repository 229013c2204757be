"""How likely a text is after another one, by a causal model on CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rewards.chat_tokens import encode_spans
from rewards.errors import JudgeFailure, UserError
from rewards.types import Span


class CausalModel:
    """Loads a model in the Hugging Face layout.

    Raises:
        UserError: the directory holds no such model.
    """

    def __init__(self, directory: Path, *, max_tokens: int):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(directory)
            self._model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16).eval()
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"likelihood model {directory}: cannot be loaded ({reason})") from error
        self._torch = torch
        self._max_tokens = max_tokens

    def mean_logprob(self, context: Sequence[Span], text: str) -> float:
        """Mean natural log-probability per token of the text's first `max_tokens` tokens, given the context.

        Control tokens count in trusted spans of the context, and are plain text elsewhere.
        """
        torch = self._torch
        before = encode_spans(self._tokenizer, context)
        tokens = encode_spans(self._tokenizer, [Span(text, is_data=True)])[: self._max_tokens]
        if not before or not tokens:
            raise JudgeFailure("empty", "the reference or the hint has no tokens", retryable=False)
        with torch.inference_mode():
            inputs = torch.tensor([before + tokens])
            # Only positions that predict the text: full logits of the context would be thrown away.
            logits = self._model(inputs, logits_to_keep=len(tokens) + 1).logits[0, :-1].float()
            chosen = logits.gather(1, torch.tensor(tokens).unsqueeze(1)).squeeze(1)
            return float((chosen - logits.logsumexp(dim=1)).mean())
