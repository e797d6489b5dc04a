"""Times of messages that mean something without one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.events import EARLIEST_NS, LATEST_AHEAD_NS
from forebay.domain.kinds.checks import times, true_where

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Message = TypeVar("Message", bound=Any)

_EARLIEST = "2009"
"""Texts of the venue's times sort as the times do, and this before any plausible one."""
_SHAPE = re.compile(r"([0-9]{4})-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
_FIRST_YEAR, _LAST_YEAR = 1678, 2261
"""All of them can be told in nanoseconds, in 64 bits."""


def apart(
    told: Sequence[tuple[int, Message]], received_ns: npt.NDArray[np.int64]
) -> list[Sequence[tuple[int, Message]]]:
    """Return messages with a time and those without, each with its frame, where there are any.

    One whose ``time`` cannot be, such as the venue's ``0001-01-01T00:00:00Z``, has none: what
    else it says is true. A text that is no time is left as it is.
    """
    texts = [message.time for _, message in told]
    sure = plausible(pa.array(texts, pa.string()), received_ns).tolist() if told else []
    if all(sure):
        return [told] if told else []
    timed, untimed = [], []
    for (index, message), known in zip(told, sure, strict=True):
        if known or (message.time and _can_be(message.time, int(received_ns[index]))):
            timed.append((index, message))
        else:
            untimed.append((index, msgspec.structs.replace(message, time=None)))
    return [part for part in (timed, untimed) if part]


def plausible(texts: pa.Array, received_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which times, told in any of some frames, are plausible in each of them.

    It may be false of some that are, never true of one that is not.
    """
    latest = np.datetime64(int(received_ns.min()) + LATEST_AHEAD_NS, "ns")
    right = pc.and_(
        pc.greater_equal(texts, pa.scalar(_EARLIEST)), pc.less(texts, pa.scalar(str(latest)[:19]))
    )
    return true_where(right)


def _can_be(text: str, received_ns: int) -> bool:
    """Return whether a text is a plausible time, or none at all."""
    year = _SHAPE.match(text)
    if year is not None and not _FIRST_YEAR <= int(year[1]) <= _LAST_YEAR:
        return False
    _, exchange_ns, bad = times(pa.array([text], pa.string()))
    return bool(bad[0]) or EARLIEST_NS <= int(exchange_ns[0]) <= received_ns + LATEST_AHEAD_NS
