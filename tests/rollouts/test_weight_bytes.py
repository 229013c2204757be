"""The bytes of a weight sync: where tensors lie, and that no change of a byte goes unseen."""

from __future__ import annotations

import hashlib
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rollouts.weight_bytes import ALIGN, TensorSlot, digest_mismatch, layout, tensor_digest

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.int64, torch.uint8]
TENSORS = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=8),
        st.sampled_from(DTYPES),
        st.lists(st.integers(0, 9), max_size=3).map(tuple),
    ),
    max_size=8,
)


def test_slots_by_hand() -> None:
    slots, size = layout([("a", torch.bfloat16, (3, 5)), ("b", torch.float32, (16,)), ("c", torch.float32, ())])
    assert slots == [
        TensorSlot("a", "bfloat16", (3, 5), 0, 30),
        TensorSlot("b", "float32", (16,), 64, 64),  # fills its line exactly
        TensorSlot("c", "float32", (), 128, 4),
    ]
    assert size == 192


def test_nothing_takes_no_room() -> None:
    assert layout([]) == ([], 0)
    assert layout([("empty", torch.float32, (0, 4))])[1] == 0


@given(TENSORS)
def test_slots_are_aligned_in_order_and_apart(tensors: list[tuple[str, torch.dtype, tuple[int, ...]]]) -> None:
    slots, size = layout(tensors)
    assert [(slot.name, getattr(torch, slot.dtype), slot.shape) for slot in slots] == tensors
    for slot, (_, dtype, shape) in zip(slots, tensors, strict=True):
        assert slot.offset % ALIGN == 0
        assert slot.num_bytes == torch.empty(shape, dtype=dtype).nbytes
    for slot, following in itertools.pairwise(slots):
        assert slot.offset + slot.num_bytes <= following.offset
    if slots:
        assert slots[-1].offset + slots[-1].num_bytes <= size < slots[-1].offset + slots[-1].num_bytes + ALIGN


def test_a_digest_is_sha256_of_the_bytes() -> None:
    tensor = torch.tensor([1.0, -2.5])
    assert tensor_digest(tensor) == hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


def test_a_digest_reads_values_in_order_wherever_they_lie() -> None:
    tensor = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)
    assert tensor_digest(tensor.t()) == tensor_digest(tensor.t().contiguous())
    assert tensor_digest(tensor.t()) != tensor_digest(tensor)
    assert tensor_digest(tensor.requires_grad_()) == tensor_digest(tensor.detach())
    assert tensor_digest(torch.tensor(3.0)) == tensor_digest(torch.tensor([3.0]))


@given(st.binary(min_size=4, max_size=200), st.data())
def test_any_flipped_bit_changes_the_digest(content: bytes, data: st.DataObject) -> None:
    content = content[: len(content) // 4 * 4]
    at, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    flipped = bytearray(content)
    flipped[at] ^= 1 << bit
    for dtype in (torch.uint8, torch.bfloat16, torch.float32):  # also where the bits are NaN or -0
        before, after = (torch.frombuffer(bytearray(part), dtype=dtype) for part in (content, flipped))
        assert tensor_digest(before) == tensor_digest(before.clone())
        assert tensor_digest(before) != tensor_digest(after)


SENT = {"a": "1", "b": "2", "c": "3"}


@pytest.mark.parametrize(
    ("received", "fault"),
    [
        ({"c": "3", "b": "2", "a": "1"}, None),
        ({}, "3 tensors did not arrive, first `a`"),
        ({"a": "1", "c": "3"}, "1 tensors did not arrive, first `b`"),
        ({**SENT, "z": "9", "d": "4"}, "2 tensors arrived that were not sent, first `d`"),
        ({"a": "1", "b": "3", "c": "2"}, "tensors `b` and `c` were swapped on the way"),
        ({"a": "1", "b": "2", "c": "x"}, "1 of 3 tensors arrived with other bytes than were sent, first `c`"),
        # b holds a's bytes, but a is unharmed: a copy, not a swap
        ({"a": "1", "b": "1", "c": "3"}, "1 of 3 tensors arrived with other bytes than were sent, first `b`"),
    ],
)
def test_a_mismatch_is_put_into_words(received: dict[str, str], fault: str | None) -> None:
    assert digest_mismatch(SENT, received) == fault


@given(
    st.dictionaries(st.text(max_size=3), st.text(max_size=2)), st.dictionaries(st.text(max_size=3), st.text(max_size=2))
)
def test_only_equal_digests_pass(sent: dict[str, str], received: dict[str, str]) -> None:
    assert (digest_mismatch(sent, received) is None) == (sent == received)
    assert digest_mismatch(sent, dict(sent)) is None
