"""A tiny random Llama with a real tokenizer, made on the spot: what tests load where users load a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (PAD, START, END)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_CORPUS = (
    "user assistant system Write one sentence about the sea and the ships that cross it.",
    "The answer that is closer to the text wins the match, and the other answer loses the match.",
    "Every morning the baker opens the shop, weighs the flour and lights the oven before the street wakes.",
    "Rain fell on the hills all night, so the river rose and the bridge was closed to traffic in the morning.",
    "A short headline tells the reader what happened, where it happened and why it matters to them.",
    "Which answer is better? Answer A is better. Answer B is better. Compare them and choose one letter.",
)


def build_tiny_tokenizer(vocab_size: int = 384, words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with ChatML turns: any text encodes, and decodes to itself.

    Ids 0, 1 and 2 are the pad, turn-start and turn-end (eos) tokens, 3 to 258 the bytes, the rest learned merges.

    Args:
        words: texts that are one token each, whatever stands around them; their ids follow from `vocab_size`.

    Raises:
        ValueError: `vocab_size` is too small for the bytes or larger than the built-in text can fill.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"a tiny tokenizer can have {tokenizer.get_vocab_size()} tokens here, not {vocab_size}")
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in words])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def build_tiny_model(
    directory: str | Path,
    *,
    vocab_size: int = 384,
    words: Sequence[str] = (),
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 32,
    max_context: int = 512,
    tie_embeddings: bool = True,
    init_std: float = 0.2,
    copy_heads: bool = False,
    seed: int = 0,
    dtype: Literal["bfloat16", "float16", "float32"] = "float32",
) -> Path:
    """Write a random Llama and its tokenizer to `directory` (Hugging Face layout); equal arguments, equal bytes.

    `head_dim` 32 is the smallest that vLLM's CPU attention takes. `init_std` is above the usual 0.02 so that logits
    are far from uniform and a wrong weight is visible in the log-probabilities. `words`: see `build_tiny_tokenizer`.
    `copy_heads`: attention hands on what it reads from the start (the output projection undoes the value projection),
    so that a task of choosing and copying tokens is learned in minutes instead of waiting for that to form; it needs
    kv_heads = heads and head_dim x heads = hidden.

    Raises:
        ValueError: a vocabulary or a shape that cannot be.
    """
    if copy_heads and not (kv_heads == heads and head_dim * heads == hidden):
        raise ValueError(f"copy_heads needs kv_heads = heads and {head_dim} x {heads} = hidden, not {hidden}")
    directory = Path(directory)
    tokenizer = build_tiny_tokenizer(vocab_size, words)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=max_context,
        tie_word_embeddings=tie_embeddings,
        initializer_range=init_std,
        bos_token_id=SPECIAL_TOKENS.index(START),
        eos_token_id=SPECIAL_TOKENS.index(END),
        pad_token_id=SPECIAL_TOKENS.index(PAD),
        dtype=dtype,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        if copy_heads:
            _let_heads_copy(model)
    model.to(getattr(torch, dtype)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@torch.no_grad()
def _let_heads_copy(model: LlamaForCausalLM) -> None:
    for layer in model.model.layers:
        attention: Any = layer.self_attn
        torch.nn.init.orthogonal_(attention.v_proj.weight)
        attention.o_proj.weight.copy_(attention.v_proj.weight.T)
