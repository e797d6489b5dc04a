"""Fragments to messages, without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.frames import FrameKind
from forebay.sources.websocket.messages import BINARY, CONTINUATION, TEXT, Assembler, Violation


def feed(
    assembler: Assembler, opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False
) -> tuple[FrameKind, bytes] | None:
    return assembler.feed(opcode, payload, fin=fin, rsv1=rsv1)


def test_a_whole_message_passes_as_the_same_object() -> None:
    payload = b"x" * 100
    whole = feed(Assembler(1000), TEXT, payload)
    assert whole is not None
    assert whole[1] is payload, "a whole message must not be copied"


@given(
    st.lists(
        st.tuples(st.sampled_from([TEXT, BINARY]), st.booleans(), st.lists(st.binary(), min_size=1))
    )
)
def test_any_split_of_any_messages_gives_them_back(
    messages: list[tuple[int, bool, list[bytes]]],
) -> None:
    assembler = Assembler(1 << 20)
    out = []
    for opcode, compressed, parts in messages:
        for index, part in enumerate(parts):
            first, last = index == 0, index == len(parts) - 1
            assert assembler.idle is first
            whole = feed(
                assembler,
                opcode if first else CONTINUATION,
                part,
                fin=last,
                rsv1=compressed and first,
            )
            assert (whole is not None) is last
            if whole is not None:
                out.append(whole)
    kinds = {TEXT: FrameKind.TEXT, BINARY: FrameKind.BINARY}
    assert out == [
        (FrameKind.COMPRESSED if compressed else kinds[opcode], b"".join(parts))
        for opcode, compressed, parts in messages
    ]
    assert assembler.idle


def test_the_limit_is_on_the_message_and_exact() -> None:
    assembler = Assembler(10)
    assert feed(assembler, TEXT, b"x" * 10) is not None
    assert feed(assembler, TEXT, b"x" * 6, fin=False) is None
    assert feed(assembler, CONTINUATION, b"x" * 4, fin=False) is None
    with pytest.raises(Violation, match="more than 10 bytes") as caught:
        feed(assembler, CONTINUATION, b"x")
    assert caught.value.code == 1009


def test_sizes_of_earlier_messages_do_not_count() -> None:
    assembler = Assembler(10)
    for _ in range(5):
        assert feed(assembler, TEXT, b"x" * 8, fin=False) is None
        assert feed(assembler, CONTINUATION, b"") == (FrameKind.TEXT, b"x" * 8)
        assert feed(assembler, BINARY, b"x" * 9) == (FrameKind.BINARY, b"x" * 9)


def test_nonsense_is_a_violation() -> None:
    with pytest.raises(Violation, match="continuation of no message") as caught:
        feed(Assembler(10), CONTINUATION, b"")
    assert caught.value.code == 1002
    half = Assembler(10)
    feed(half, TEXT, b"", fin=False)
    with pytest.raises(Violation, match="inside a fragmented one"):
        feed(half, BINARY, b"")
    with pytest.raises(Violation, match="RSV1 set on a continuation"):
        feed(half, CONTINUATION, b"", rsv1=True)
