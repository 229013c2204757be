"""How weights travel as bytes: the layout of the shared buffer and the digest that proves its arrival.

Imported by both ends of a transfer (`rollouts/receive.py`, `rl/weights.py`); needs torch only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch

ALIGN = 64


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """Where one tensor lies in the buffer: `num_bytes` bytes from `offset`, of `dtype` ("bfloat16") and `shape`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


def layout(tensors: list[tuple[str, torch.dtype, tuple[int, ...]]]) -> tuple[list[TensorSlot], int]:
    """Slots for (name, dtype, shape) triples in order, each aligned to 64 bytes, and the buffer's size in bytes."""
    slots: list[TensorSlot] = []
    offset = 0
    for name, dtype, shape in tensors:
        num_bytes = dtype.itemsize * int(torch.Size(shape).numel())
        slots.append(TensorSlot(name, str(dtype).removeprefix("torch."), tuple(shape), offset, num_bytes))
        offset += -(-num_bytes // ALIGN) * ALIGN
    return slots, offset


def tensor_digest(tensor: torch.Tensor) -> str:
    """SHA-256 over a tensor's bytes, on whatever device it lies."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().data).hexdigest()


def digest_mismatch(sent: Mapping[str, str], received: Mapping[str, str]) -> str | None:
    """One line that says how the received tensors differ from the sent ones, or None if every byte arrived.

    Two tensors that arrived under each other's names are told apart from damaged ones.
    """
    if missing := sorted(sent.keys() - received.keys()):
        return f"{len(missing)} tensors did not arrive, first `{missing[0]}`"
    if extra := sorted(received.keys() - sent.keys()):
        return f"{len(extra)} tensors arrived that were not sent, first `{extra[0]}`"
    wrong = [name for name in sent if sent[name] != received[name]]
    if not wrong:
        return None
    first = wrong[0]
    other = next((name for name in wrong if sent[name] == received[first]), None)
    if other is not None:
        return f"tensors `{first}` and `{other}` were swapped on the way"
    return f"{len(wrong)} of {len(sent)} tensors arrived with other bytes than were sent, first `{first}`"
