"""A recipe folder with everything that a check looks up, and machines to hold it against."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import tests.recipes
from launch.machine import Gpu, Machine

FULL = Path(tests.recipes.__file__).parent / "data" / "full.yaml"

LAPTOP = Machine(cores=2, memory_gib=32.0, memory_free_gib=30.0, shm_gib=16.0, shm_free_gib=16.0)
GPU_BOX = Machine(
    cores=32,
    memory_gib=256.0,
    memory_free_gib=250.0,
    shm_gib=128.0,
    shm_free_gib=128.0,
    gpus=(Gpu("A", 80.0),) * 8,
)

PYTHON_JUDGE = "rewards.judge={kind: python, target: my_rewards:compare}"


def write_recipe_folder(folder: Path) -> Path:
    """`full.yaml` with a policy, a judge, 200 prompts, 40 answers and a plug-in beside it; returns the recipe."""
    shutil.copy(FULL, folder / "full.yaml")
    write_model(folder / "model", max_context=8192)
    write_model(folder / "judge", max_context=8192)
    write_model(folder / "embedder", max_context=256)
    rows = (json.dumps({"text": f"a text, number {n}"}) for n in range(200))
    (folder / "prompts.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    answers = (
        json.dumps({"prompt": f"a text, number {n}", "completion": f"a headline, number {n}"}) for n in range(40)
    )
    (folder / "answers.jsonl").write_text("\n".join(answers) + "\n", encoding="utf-8")
    plugin = (
        "raise ImportError('a check imports no plug-in')\n\n\ndef compare(prompt, first, second):\n    return 0.5\n"
    )
    (folder / "my_rewards.py").write_text(plugin, encoding="utf-8")
    text = (folder / "full.yaml").read_text(encoding="utf-8")
    text = text.replace("package:all-minilm-l6-v2", "./embedder")
    (folder / "full.yaml").write_text(text, encoding="utf-8")
    return folder / "full.yaml"


def write_model(folder: Path, *, max_context: int) -> None:
    """A model directory of 24,000 parameters whose weights nobody will read."""
    folder.mkdir()
    config = {
        "max_position_embeddings": max_context,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    shapes = {"embed": [1000, 16], "rest": [8, 1000]}
    header = json.dumps(
        {name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    )
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
