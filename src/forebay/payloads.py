"""Many payloads in one buffer: what a journal's block holds and columns are read from.

A batch of a backlog has tens of thousands of payloads. An object for each costs more than all
that is done with their bytes, so they stay where they were read, and only who asks for a single
one gets an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import numpy.typing as npt
else:
    from forebay.lazy import numpy as np


class Payloads(Sequence[bytes]):
    """Payloads one behind the other; equal to any list of the same ones.

    A slice shares the buffer and keeps all of it in memory. So what is kept for longer than a
    step should be single payloads, which are copies.
    """

    __slots__ = ("data", "ends")

    def __init__(self, data: bytes | memoryview, ends: npt.NDArray[np.int64]) -> None:
        self.data = data
        """All payloads and nothing else."""
        self.ends = ends
        """Where each ends in ``data``, never falling; shape (n,). The last is ``len(data)``."""

    @classmethod
    def of(cls, payloads: Iterable[bytes]) -> Payloads:
        """Put single payloads one behind the other; returns itself if they already are."""
        if isinstance(payloads, Payloads):
            return payloads
        single = list(payloads)
        lengths = np.fromiter(map(len, single), np.int64, len(single))
        return cls(b"".join(single), lengths.cumsum())

    @classmethod
    def joined(cls, parts: Sequence[Payloads]) -> Payloads:
        """Return the payloads of all parts in order: a copy, unless there is but one."""
        if len(parts) == 1:
            return parts[0]
        ends, offset = [np.empty(0, dtype=np.int64)], 0
        for part in parts:
            ends.append(part.ends + offset)
            offset += len(part.data)
        return cls(b"".join(part.data for part in parts), np.concatenate(ends))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice[int | None, int | None, int | None]) -> Payloads: ...
    def __getitem__(self, at: int | slice[int | None, int | None, int | None]) -> bytes | Payloads:
        """Return one payload, or some that stand together; a step is refused."""
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step != 1:
                message = "Payloads in one buffer have no steps."
                raise ValueError(message)
            begin = self._begin(start)
            return Payloads(
                memoryview(self.data)[begin : self._begin(max(start, stop))],
                self.ends[start:stop] - begin,
            )
        place = range(len(self))[at]
        return bytes(self.data[self._begin(place) : self.ends.item(place)])

    def __iter__(self) -> Iterator[bytes]:
        data, begin = bytes(self.data), 0  # cutting bytes takes a third of cutting a view
        for end in self.ends.tolist():
            yield data[begin:end]
            begin = end

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Payloads, list)):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} payloads, {len(self.data)} bytes>"

    def within(self, start: int, size: int) -> int:
        """Return up to where payloads from ``start`` on have no more than ``size`` bytes."""
        most = self._begin(start) + size
        return max(start, int(self.ends.searchsorted(most, side="right")))

    def _begin(self, at: int) -> int:
        return self.ends.item(at - 1) if at else 0
