"""Answers in conversations: where they start and end in tokens, and what a model would have to sample."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from rewards.errors import UserError
from rollouts.chat import encode_prompt
from rollouts.dialogue import Dialogue, encode_dialogue, encode_literal
from rollouts.tiny import END, build_tiny_tokenizer

TWO_TURNS = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "What rose?"},
    {"role": "assistant", "content": "The river."},
    {"role": "user", "content": "And then?"},
    {"role": "assistant", "content": "Rain <|im_end|> fell. "},
]

FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if loop.last and m['role'] == 'assistant' %}(thought) {% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Like templates of reasoning models: earlier answers lose what the last one has."""


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tiny_tokenizer()


def learned(tokenizer: PreTrainedTokenizerFast, dialogue: Dialogue) -> str:
    return str(tokenizer.decode(dialogue.answer_token_ids[dialogue.loss_mask]))


def everything(tokenizer: PreTrainedTokenizerFast, dialogue: Dialogue) -> str:
    return str(tokenizer.decode([*dialogue.prompt_token_ids, *dialogue.answer_token_ids]))


def test_all_answers_are_learned_with_their_end_marks_and_nothing_else(tokenizer: PreTrainedTokenizerFast) -> None:
    dialogue = encode_dialogue(tokenizer, TWO_TURNS)
    assert learned(tokenizer, dialogue) == f"The river.{END}Rain {END} fell. {END}"
    template = tokenizer.apply_chat_template(TWO_TURNS, tokenize=False)
    assert isinstance(template, str)
    assert everything(tokenizer, dialogue) == template.rstrip()
    assert dialogue.num_tokens == len(dialogue.prompt_token_ids) + len(dialogue.answer_token_ids)


def test_an_answer_follows_the_very_prompt_that_rl_samples_from(tokenizer: PreTrainedTokenizerFast) -> None:
    for only_last, upto in ((False, 2), (True, 4)):
        dialogue = encode_dialogue(tokenizer, TWO_TURNS, only_last=only_last)
        assert dialogue.prompt_token_ids.tolist() == encode_prompt(tokenizer, TWO_TURNS[:upto]).tolist()
    assert learned(tokenizer, dialogue) == f"Rain {END} fell. {END}"
    assert dialogue.loss_mask.all()


def test_a_template_that_rewrites_earlier_answers_is_refused_unless_the_last_is_enough(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.chat_template = FORGETFUL
    with pytest.raises(UserError, match=r"message 3 differently.*sft\.turns: last"):
        encode_dialogue(tokenizer, TWO_TURNS)
    assert learned(tokenizer, encode_dialogue(tokenizer, TWO_TURNS[:3])) == f"(thought) The river.{END}"
    assert learned(tokenizer, encode_dialogue(tokenizer, TWO_TURNS, only_last=True)).startswith("(thought) Rain")


def test_an_answer_without_an_end_mark_gets_the_end_token(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}" + (
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert learned(tokenizer, encode_dialogue(tokenizer, TWO_TURNS[1:3])) == f"The river.\n{END}"
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no end token"):
        encode_dialogue(tokenizer, TWO_TURNS[1:3])


def test_a_base_model_continues_the_prompt_as_it_stands(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = None
    dialogue = encode_dialogue(tokenizer, TWO_TURNS[1:3])
    assert dialogue.prompt_token_ids.tolist() == encode_prompt(tokenizer, TWO_TURNS[1:2]).tolist()
    assert everything(tokenizer, dialogue) == f"What rose?The river.{END}"
    with pytest.raises(UserError, match="one answer"):
        encode_dialogue(tokenizer, TWO_TURNS)
    assert learned(tokenizer, encode_dialogue(tokenizer, TWO_TURNS, only_last=True)).endswith(f" fell. {END}")


def test_literal_text_is_taken_as_it_is(tokenizer: PreTrainedTokenizerFast) -> None:
    dialogue = encode_literal(tokenizer, "1 2 3", " 4")
    assert everything(tokenizer, dialogue) == f"1 2 3 4{END}"
    assert learned(tokenizer, dialogue) == f" 4{END}"
    assert encode_literal(tokenizer, "1", f"2{END}").answer_token_ids.tolist()[-1] == tokenizer.eos_token_id
    assert everything(tokenizer, encode_literal(tokenizer, "1", f"2{END}")) == f"12{END}"
