"""Filling gaps without a capture."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from forebay.app.offline import gaps, replay
from forebay.app.wiring import venues
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.errors import Permanent
from forebay.ports import HistoryRequest
from forebay.telemetry import ignore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

WANTED = [
    *(HistoryRequest("trade", symbol, 1, 2) for symbol in ("GONE", "GONE", "BTC-USD")),
    HistoryRequest("trade", "GONE", 1, 2, "time", "perp"),
]


class Asked:
    """Journal, deliverer and source in one: knows no symbol GONE of the spot market."""

    def __init__(self) -> None:
        self.symbols: list[str] = []
        self.units: list[str] = []
        self.drained = 0
        self.position = self
        self.seq = 1

    async def fill(self, request: HistoryRequest, sink: object) -> None:
        self.symbols.append(request.symbol)
        self.units.append(request.unit)
        if (request.market, request.symbol) == ("spot", "GONE"):
            raise Permanent("There is no such product.")

    def open_gaps(self, venue: str, states: tuple[str, ...]) -> tuple[list[HistoryRequest], int]:
        assert states == ("open", "permanent"), "a verdict may be looked at again"
        return (WANTED if venue == "coinbase" else []), 1

    def coverage_of(self, key: object) -> None:
        """Nothing is known of any stream."""

    def drain(self) -> None:
        self.drained += 1


async def no_bars(_: object) -> list[object]:
    return []


async def test_a_refused_stream_does_not_keep_the_others_from_being_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked()

    @contextlib.contextmanager
    def offline(*_: object) -> Iterator[tuple[Asked, Asked, Asked]]:
        yield asked, asked, asked

    @contextlib.asynccontextmanager
    async def source(*_: object) -> AsyncIterator[Asked]:
        yield asked

    monkeypatch.setattr(replay, "offline_store", offline)
    monkeypatch.setattr(gaps._Checks, "all", no_bars)
    monkeypatch.setattr(venues, "source", source)

    with pytest.raises(Permanent, match="GONE: There is no such product"):
        await gaps.fill_gaps(DataFolder(tmp_path), Config(), ignore)

    assert asked.symbols == ["GONE", "BTC-USD", "GONE"]
    assert asked.units == ["id", "id", "time"]
    assert asked.drained == 1
