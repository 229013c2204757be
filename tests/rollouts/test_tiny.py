from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from rollouts.tiny import build_tiny_model, build_tiny_tokenizer

TOKENIZER = build_tiny_tokenizer()


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def test_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    first = digests(build_tiny_model(tmp_path / "a", seed=3))
    assert first == digests(build_tiny_model(tmp_path / "b", seed=3))
    assert first["model.safetensors"] != digests(build_tiny_model(tmp_path / "c", seed=4))["model.safetensors"]


def test_building_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    build_tiny_model(tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_transformers_loads_it_and_its_logits_are_far_from_uniform(
    tmp_path: Path, tie_embeddings: bool, dtype: str
) -> None:
    build_tiny_model(tmp_path, tie_embeddings=tie_embeddings, dtype=dtype)  # pyright: ignore[reportArgumentType]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == getattr(torch, dtype)
    names = dict(model.named_parameters())
    assert ("lm_head.weight" in names) == (not tie_embeddings)
    ids = tokenizer("Rain fell on the hills", return_tensors="pt")["input_ids"]
    logprobs = model(ids).logits.float().log_softmax(-1)
    entropy = -(logprobs.exp() * logprobs).sum(-1).mean().item()
    assert entropy < math.log(len(tokenizer)) - 0.3


def test_chat_template_opens_the_answer() -> None:
    text = TOKENIZER.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@given(st.text())
def test_any_text_survives_the_round_trip(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(ids) == text


def test_impossible_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="not 100"):
        build_tiny_tokenizer(100)


def test_heads_that_copy_hand_on_what_they_read(tmp_path: Path) -> None:
    build_tiny_model(tmp_path, heads=2, kv_heads=2, copy_heads=True)
    attention = AutoModelForCausalLM.from_pretrained(tmp_path).model.layers[1].self_attn
    torch.testing.assert_close(attention.o_proj.weight @ attention.v_proj.weight, torch.eye(64), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="copy_heads needs"):
        build_tiny_model(tmp_path / "wide", heads=4, kv_heads=4, copy_heads=True)


def test_words_are_one_token_wherever_they_stand(tmp_path: Path) -> None:
    build_tiny_model(tmp_path, vocab_size=259, words=[" i01", "</SLATE>"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("a i01</SLATE> i01", add_special_tokens=False)[1:] == [259, 260, 259]
    assert tokenizer.decode([259, 260, 259], skip_special_tokens=True) == " i01</SLATE> i01"
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.vocab_size == 261
