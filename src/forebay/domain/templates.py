"""JSON messages of one fixed shape, read as columns: no object a frame, and no guess.

A venue writes a message type the same way every time, so its text is constant but for the
values. :class:`Template` is that text with the values' places marked::

    {"type":"match","trade_id":<trade_id>,"side":"<side>"}

A value between quotes is a text, any other is a whole number. A payload *fits* if it consists,
byte for byte and to its end, of the template's constant parts and between them

* for a text: what stands before the next quote, at most :data:`MOST_BYTES`,
* for a number: 1 to :data:`MOST_DIGITS` digits as JSON writes them, without a leading zero,

and if no byte of it is a backslash, a control character or outside ASCII. So a text that was
found has no quote, no escape and no control character in it and means itself; the payload *is*
JSON, with the template's keys once each in the template's order; and every JSON parser finds
these values. What does not fit is not judged here: whoever calls reads it with a parser.

Many payloads are read in step: each has a place that it was read to, and a step moves all of
them over one constant or one value. A payload that does not fit is moved as well, to wherever;
that it failed is remembered, and no other payload's place depends on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from forebay.payloads import Payloads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Places = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

MOST_BYTES = 40
"""Longer than any text of a trade: a UUID has 36, a time in nanoseconds 30."""
MOST_DIGITS = 18
"""So many always fit 64 bits."""
AT_ONCE = 8192
"""Payloads read together: so many that calls cost little, so few that they stay in the cache."""

_PLACE = re.compile(r"<(\w+)>")
_SPACE, _QUOTE, _BACKSLASH, _ZERO = b' "\\0'
_ASCII_END = 0x80


@dataclass(frozen=True, slots=True)
class MatchedRows:
    """Payloads that fit, in their order; ``n`` rows."""

    index: Places
    """Of each row, the index of its payload; shape (n,)."""
    _text: bytes
    _bounds: dict[str, tuple[Places, Places]]
    """Of each value, where it starts and ends in ``_text``; each of shape (n,)."""

    def __len__(self) -> int:
        return len(self.index)

    def only(self, mask: Mask) -> MatchedRows:
        """Return the rows for which ``mask``, of shape (n,), is true."""
        if mask.all():
            return self
        bounds = {name: (start[mask], end[mask]) for name, (start, end) in self._bounds.items()}
        return MatchedRows(self.index[mask], self._text, bounds)

    def texts(self, name: str) -> pa.Array:
        """Return a value of each row, be it text or number, as Arrow strings; length n."""
        # Strings of an Arrow array lie one behind the other, so what is between two values is
        # made a string as well, and every other one is taken.
        offsets = np.zeros((len(self) + 1, 2), dtype=np.int32)
        offsets[:-1, 0], offsets[:-1, 1] = self._bounds[name]
        count = max(2 * len(self) - 1, 0)
        spans = pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(self._text))
        return spans.take(pa.array(np.arange(0, count, 2, dtype=np.int32)))

    def numbers(self, name: str) -> npt.NDArray[np.int64]:
        """Return a number of each row; shape (n,)."""
        found: npt.NDArray[np.int64] = self.texts(name).cast("int64").to_numpy()
        return found

    def says(self, name: str, text: bytes) -> Mask:
        """Tell of each row whether a value is ``text``; shape (n,)."""
        starts, ends = self._bounds[name]
        stands: Mask = _stands(self._text, text, starts) & (ends - starts == len(text))
        return stands


class Template:
    """The text of a message type with its values marked by name; see the module."""

    def __init__(self, text: str) -> None:
        *parts, last = _PLACE.split(text)
        self._steps = [
            (constant.encode(), name)
            for constant, name in zip(parts[::2], parts[1::2], strict=True)
        ]
        self._last = last.encode()
        # Behind the last payload: however far reading goes astray, it reads something.
        self._padding = b" " * (len(text) + (MOST_BYTES + 1) * (len(self._steps) + 1))

    def read(self, payloads: Sequence[bytes]) -> Iterator[MatchedRows]:
        """Return those of ``payloads`` that fit, in order, some thousands at a time.

        :class:`~forebay.payloads.Payloads` are read from their buffer, without an object for any.
        """
        for first in range(0, len(payloads), AT_ONCE):
            yield self._read(first, Payloads.of(payloads[first : first + AT_ONCE]))

    def _read(self, first: int, payloads: Payloads) -> MatchedRows:
        text, ends = b"".join((payloads.data, self._padding)), payloads.ends
        starts = np.concatenate(([0], ends[:-1]))
        begun = _stands(text, self._steps[0][0], starts)
        # Of a batch with none of this type, no more is looked at.
        likely = np.flatnonzero(begun & _plain(text, ends)) if begun.any() else starts[:0]
        fit = np.ones(len(likely), dtype=np.bool_)
        at, bounds = starts[likely], {}
        for constant, name in self._steps:
            fit &= _stands(text, constant, at)
            start = at + len(constant)
            if constant.endswith(b'"'):
                at = start + _text_length(text, start)
            else:
                at = start + _number_length(text, start)
                fit &= at > start
            bounds[name] = start, at
        fit &= _stands(text, self._last, at) & (at + len(self._last) == ends[likely])
        return MatchedRows(first + likely, text, bounds).only(fit)


def _windows(text: bytes, width: int, at: Places) -> npt.NDArray[np.bytes_]:
    """Return the ``width`` bytes at each of n places, shape (n,)."""
    everywhere = np.ndarray((len(text) - width + 1,), f"S{width}", text, strides=(1,))
    found: npt.NDArray[np.bytes_] = everywhere[at]
    return found


def _bytes(text: bytes, width: int, at: Places) -> npt.NDArray[np.uint8]:
    """Return the same windows as numbers, shape (n, width)."""
    return _windows(text, width, at).view(np.uint8).reshape(len(at), width)


def _stands(text: bytes, constant: bytes, at: Places) -> Mask:
    """Tell of each place whether ``constant`` stands there."""
    found = _windows(text, len(constant), at)
    if found.tobytes() == constant * len(at):  # nearly always, and ten times as quick
        return np.ones(len(at), dtype=np.bool_)
    # Numpy ignores zero bytes at the end; they make a window shorter, and no constant has any.
    stands: Mask = found == constant
    return stands


def _text_length(text: bytes, at: Places) -> Places:
    """Count the bytes from each place to the next quote; 0 if there is none near.

    Then what stands at the place is no quote, so the constant behind the value is not there.
    """
    found = _bytes(text, MOST_BYTES + 1, at)
    lengths: Places = (found == _QUOTE).argmax(axis=1)
    return lengths


def _number_length(text: bytes, at: Places) -> Places:
    """Count the digits at each place; 0 if they are not a number or too many."""
    found = _bytes(text, MOST_DIGITS + 1, at)
    no_digit = found - _ZERO > 9  # noqa: PLR2004 - what is below "0" wraps around
    lengths: Places = no_digit.argmax(axis=1)
    lengths[(found[:, 0] == _ZERO) & (lengths > 1)] = 0
    return lengths


def _plain(text: bytes, ends: Places) -> Mask:
    """Tell which payloads, given where each ends, are ASCII without control and backslash."""
    plain = np.ones(len(ends), dtype=np.bool_)
    raw = np.frombuffer(text, np.uint8)
    if not text.isascii() or b"\\" in text or raw.min() < _SPACE:
        odd = (raw < _SPACE) | (raw >= _ASCII_END) | (raw == _BACKSLASH)
        plain[np.searchsorted(ends, np.flatnonzero(odd), side="right")] = False
    return plain
