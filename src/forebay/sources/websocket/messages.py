"""From websocket frames to whole messages: RFC 6455, section 5.4, and nothing else. Pure."""

from __future__ import annotations

from forebay.domain.frames import FrameKind

CONTINUATION = 0x0
TEXT = 0x1
BINARY = 0x2

PROTOCOL_ERROR = 1002
MESSAGE_TOO_BIG = 1009

_KINDS = {TEXT: FrameKind.TEXT, BINARY: FrameKind.BINARY}


class Violation(Exception):
    """The peer broke the protocol or a limit; ``code`` is what the close frame says."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Assembler:
    """Joins the fragments of one connection's messages, up to ``max_bytes`` each."""

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._kind: FrameKind | None = None
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def idle(self) -> bool:
        """True if no message is half received."""
        return self._kind is None

    def feed(
        self, opcode: int, payload: bytes, *, fin: bool, rsv1: bool
    ) -> tuple[FrameKind, bytes] | None:
        """Take a data frame; return the whole message if this ends one.

        A message with RSV1 on its first frame is compressed although nobody agreed to it
        (RFC 7692, section 6): its bytes are kept as they are. Raises :class:`Violation`.
        """
        if opcode == CONTINUATION:
            if self._kind is None:
                raise Violation(PROTOCOL_ERROR, "continuation of no message")
            if rsv1:
                raise Violation(PROTOCOL_ERROR, "RSV1 set on a continuation")
            kind = self._kind
        elif self._kind is None:
            kind = FrameKind.COMPRESSED if rsv1 else _KINDS[opcode]
        else:
            raise Violation(PROTOCOL_ERROR, "new message inside a fragmented one")
        self._size += len(payload)
        if self._size > self._max:
            raise Violation(MESSAGE_TOO_BIG, f"message of more than {self._max} bytes")
        if fin and not self._parts:
            self._size = 0
            return kind, payload
        self._parts.append(payload)
        if not fin:
            self._kind = kind
            return None
        whole = b"".join(self._parts)
        self._kind, self._parts, self._size = None, [], 0
        return kind, whole
