"""Texts that a server might read as control tokens, broken up by a space, so that an answer cannot end its turn.

A server with a chat template of its own turns `<|im_end|>` in a message into a control token, wherever it stands. The
tokens of the model behind an endpoint are not known here; what stands below are the forms that chat models use.

    <|im_end|>   --->   < |im_end|>        [/INST]   --->   [ /INST]
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NAMES = "|".join(
    (
        *("s", "bos", "eos", "pad", "unk", "mask", "cls", "sep", "sop", "eop", "eod", "eot", "blank", "newline"),
        *("think", "answer", "tool", "tools", "function", "image", "audio", "video", "turn", "reponame", "filename"),
        *("system", "user", "assistant", "human", "bot", "model", "startoftext", "endoftext", r"unused\d+", r"s\d+"),
        r"0x[0-9A-Fa-f]{2}",
    )
)
"""Of control tokens without an underscore; HTML has no element of any of these names but `s`, `video` and `audio`."""

_FORMS = (
    r"<(?=[|｜])",  # ChatML, Llama 3, Phi, GLM, gpt-oss; DeepSeek with full-width bars
    r"<(?=[\w\"]{1,40}[|｜]>)",  # Gemma 4's closing ones: <turn|>
    r"<(?=/?seed:\w{1,40}>)",  # Seed-OSS
    r"\](?=<\]\w{1,40}\[>\[)",  # MiniMax: ]<]end_of_image[>[
    r"<(?=</?SYS>>)",  # Llama 2
    rf"<(?=/?(?:{_NAMES})>)",
    r"<(?=/?\w{0,40}_\w{0,40}>)",  # <end_of_turn>, <tool_call>, <fim_prefix>, <jupyter_code>, <extra_id_0>
    r"\[(?=/?(?:[A-Z][A-Z_]+|gMASK|sMASK|control_\d+|unused\d+)\])",  # Mistral, BERT, GLM
)


def broken_up(text: str, extra: Sequence[str] = ()) -> str:
    """`text` with a space behind the first character of all that looks like a control token.

    Args:
        extra: further control tokens, of two characters or more.
    """
    forms = (*_FORMS, *(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in extra))
    return re.sub("|".join(forms), lambda found: f"{found[0]} ", text)
