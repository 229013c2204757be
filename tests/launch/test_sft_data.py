from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from launch.run_dir import RunDir
from launch.sft_data import encode_data
from launch.sft_run import check_resumed, mark_sft_run, refuse_sft_run
from rewards.errors import UserError
from rl.sft_config import SFTConfig
from rollouts.tiny import build_tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tiny_tokenizer()


def config(folder: Path, lengths: list[int], **keys: Any) -> SFTConfig:
    """Rows of one prompt letter and an answer of so many letters."""
    rows = [json.dumps({"prompt": "a", "completion": "z" * length}) for length in lengths]
    (folder / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    keys = {"apply_chat_template": False, "heldout_share": 0.0, "max_tokens": 6} | keys
    return SFTConfig.model_validate({"data": str(folder / "rows.jsonl"), **keys})


def test_long_rows_are_refused_by_line_or_left_out_and_counted(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    lengths = [3, 4, 5, 9]  # with the prompt and the end mark: 5, 6, 7 and 11 tokens
    with pytest.raises(UserError) as caught:
        encode_data(config(tmp_path, lengths), tokenizer, seed=0)
    first, second = str(caught.value).splitlines()
    assert "rows.jsonl:3: 7 tokens, more than sft.max_tokens = 6" in first
    assert "rows.jsonl:4: 11 tokens" in second
    data = encode_data(config(tmp_path, lengths, too_long="skip"), tokenizer, seed=0)
    assert ([one.num_tokens for one in data.train], data.num_skipped) == ([5, 6], 2)
    assert (data.num_tokens, data.num_learned_tokens) == (11, 9)
    with pytest.raises(UserError, match="all 1 rows are longer"):
        encode_data(config(tmp_path, [9], too_long="skip"), tokenizer, seed=0)


def test_held_out_rows_come_from_their_file_or_a_share(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "b", "completion": "y"}\n', encoding="utf-8")
    data = encode_data(config(tmp_path, [1, 2], heldout_share=None, heldout_data=str(other)), tokenizer, seed=0)
    assert (len(data.train), len(data.heldout)) == (2, 1)
    data = encode_data(config(tmp_path, [1, 2, 3, 4], heldout_share=0.5), tokenizer, seed=0)
    assert (len(data.train), len(data.heldout)) == (2, 2)


def test_a_run_goes_on_with_the_rows_it_began_with(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    run = RunDir.create(tmp_path, "run", {}, seed=0)
    data = encode_data(config(tmp_path, [1, 2]), tokenizer, seed=0)
    refuse_sft_run(run)
    with pytest.raises(UserError, match="is no run of podium sft; go on with podium train --resume"):
        check_resumed(run, data, num_steps=3)
    mark_sft_run(run, data, num_steps=3)
    check_resumed(run, data, num_steps=3)
    with pytest.raises(UserError, match="is a run of podium sft"):
        refuse_sft_run(run)
    with pytest.raises(UserError, match="has 3 steps, these settings make 4"):
        check_resumed(run, data, num_steps=4)
    changed = encode_data(config(tmp_path, [1, 3]), tokenizer, seed=0)
    with pytest.raises(UserError, match=r"the rows of sft\.data have changed"):
        check_resumed(run, changed, num_steps=3)
    (run.path / "sft.json").write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        check_resumed(run, data, num_steps=3)
