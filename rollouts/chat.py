"""Messages as token ids for the policy; what encodes them is shared with judges (`rewards/chat_tokens.py`)."""

from rewards.chat_tokens import control_token_ids, encode_messages, encode_prompt

__all__ = ["control_token_ids", "encode_messages", "encode_prompt"]
