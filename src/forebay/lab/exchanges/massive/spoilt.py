"""Bars that cannot be: in which ways a page of the simulated Massive is corrupt."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HOUR_MS: Final = 3_600_000
_FAR_MS: Final = 5_815_518_660_000  # in the year 2154


class Spoilt(Enum):
    """What is wrong with a bar."""

    IMPOSSIBLE = "its high is below its low"
    NO_OPEN = "it has no open"
    NO_VOLUME = "it has no volume"
    NULL = "its close is null"
    SECONDS = "its time is in seconds"
    ZONE = "its time is that of a zone an hour behind"
    FAR = "its time is far in the future"
    NEGATIVE = "its low is negative"
    NEGATIVE_VOLUME = "its volume is negative"
    NOUGHT = "its open is 0"


_ALL: Final = tuple(Spoilt)
_CHANGED: Final[Mapping[Spoilt, Callable[[dict[str, str]], dict[str, str]]]] = MappingProxyType(
    {
        Spoilt.IMPOSSIBLE: lambda cells: {"h": cells["l"], "l": f"{cells['h']}1"},
        Spoilt.NULL: lambda _: {"c": "null"},
        Spoilt.SECONDS: lambda cells: {"t": cells["t"][:-3]},
        Spoilt.ZONE: lambda cells: {"t": str(int(cells["t"]) - HOUR_MS)},
        Spoilt.FAR: lambda _: {"t": str(_FAR_MS)},
        Spoilt.NEGATIVE: lambda cells: {"l": f"-{cells['l']}"},
        Spoilt.NEGATIVE_VOLUME: lambda cells: {"v": f"-{cells['v']}"},
        Spoilt.NOUGHT: lambda _: {"o": "0"},
    }
)
_LEFT_OUT: Final = MappingProxyType({Spoilt.NO_OPEN: "o", Spoilt.NO_VOLUME: "v"})


def way(turn: int) -> Spoilt:
    """Return what is wrong with a corrupt bar: each way comes in turn."""
    return _ALL[turn % len(_ALL)]


def spoil(cells: dict[str, str], turn: int) -> None:
    """Make a row one that cannot be, each time in another way."""
    what = way(turn)
    if what in _LEFT_OUT:
        del cells[_LEFT_OUT[what]]
    else:
        cells.update(_CHANGED[what](cells))
