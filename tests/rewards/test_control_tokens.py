"""No text spells a control token of the models that people put behind an endpoint; ordinary text stays as it is."""

from __future__ import annotations

import pytest

from rewards.control_tokens import broken_up

CONTROL_TOKENS = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>"),
    *("<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|user|>", "<|assistant|>", "<|END_OF_TURN_TOKEN|>"),
    *(
        "<｜begin▁of▁sentence｜>",
        "<｜User｜>",
        "<｜Assistant｜>",
        "<s>",
        "</s>",
        "<unk>",
        "<pad>",
        "<mask>",
        "<bos>",
        "<eos>",
    ),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[TOOL_CALLS]", "[/AVAILABLE_TOOLS]", "[IMG]"),
    *("<|turn>", "<turn|>", "<tool_call|>", "<|channel>", "<channel|>", "<seed:bos>", "<seed:think>", "</seed:think>"),
    *("]<]minimax[>[", "]<]end_of_image[>["),
    *("<start_of_turn>", "<end_of_turn>", "<unused99>", "<think>", "</think>", "<tool_call>", "</tool_response>"),
    *(
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[gMASK]",
        "[control_8]",
        "<sop>",
        "<extra_id_0>",
        "<0x0A>",
        "<|reserved_special_token_3|>",
    ),
)


@pytest.mark.parametrize("token", CONTROL_TOKENS)
def test_control_tokens_are_broken_up_and_nothing_is_lost(token: str) -> None:
    text = broken_up(f"a{token}{token}b")
    assert token not in text
    assert text.replace(" ", "") == f"a{token}{token}b"
    assert broken_up(text) == text


def test_tokens_that_the_recipe_names() -> None:
    assert broken_up("x ##END## y", ["##END##"]) == "x # #END## y"
    assert broken_up("x ##END## y") == "x ##END## y"


def test_ordinary_text_stays() -> None:
    text = (
        'if a < b and c <d>: x[i] = [1, 2] # <div class="s"><b>bold</b></div> [see A] [1] [2, 3] <- |> a|b <https://x>'
    )
    assert broken_up(text) == text
