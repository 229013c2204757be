"""The reference text that some judges hold answers against."""

from __future__ import annotations

import difflib

from rewards.errors import UserError
from rewards.types import Prompt


def reference_of(prompt: Prompt, field: str | None) -> str:
    """The prompt's field, or its text where `field` is None.

    Raises:
        UserError: the prompt has no such field.
    """
    if field is None:
        return prompt.text
    if field not in prompt.fields:
        near = difflib.get_close_matches(field, list(prompt.fields), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(prompt.fields) or 'none'}"
        raise UserError(f"judge.reference_field: prompt {prompt.id} has no field {field!r}; {hint}")
    return prompt.fields[field]
