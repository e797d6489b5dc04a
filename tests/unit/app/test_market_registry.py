"""The registry of a venue as the capture process runs it: what it remembers, and what it counts."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from forebay.app.processes.market_registry import directory_of, samples, wanted_of
from forebay.app.wiring import venues
from forebay.app.wiring.data_folder import DataFolder
from forebay.app.wiring.venue_config import VenueConfig
from forebay.clock import ManualClock
from forebay.domain.listing import Directory, ListedMarket, ListPage
from forebay.errors import ConfigError
from forebay.services.registry import RegistryMemory
from forebay.sources import coinbase
from forebay.sources.live import Wiring
from forebay.telemetry import RegistryNotKept
from tests.support.sinks import RecordingSink

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.telemetry import TelemetryEvent

CONFIG = VenueConfig(name="listing", symbols=("M-*", "N-1"), channels=("trade",), refresh_s=10.0)
MEMORY = RegistryMemory({"M-*": 5}, 7, {"M-1": (1, None)})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    directory = Directory(
        first=lambda query: f"/m?{query.head}",
        read=lambda _: ListPage(()),
        following=lambda *_: "",
        kinds=("market",),
    )
    made = replace(coinbase.VENUE, name="listing", directory=directory)
    monkeypatch.setattr(venues, "VENUES", {**venues.VENUES, "listing": made})
    return DataFolder(tmp_path / "data").create()


def test_what_a_registry_knows_is_kept_in_the_folder_a_venue_and_market_each(
    folder: DataFolder,
) -> None:
    assert folder.registry("listing", "spot") == RegistryMemory()
    folder.remember_registry("listing", "spot", MEMORY)
    assert folder.registry("listing", "spot") == MEMORY
    assert folder.registry("listing", "a/b") == RegistryMemory()
    folder.remember_registry("listing", "a/b", RegistryMemory({"*": 1}))
    assert folder.registry("listing", "spot") == MEMORY
    assert folder.existing().plugins() == {}, "it is still a data folder of ours"


@pytest.mark.parametrize("content", ["{", "5", '{"asked": 5}'])
def test_a_file_that_cannot_be_read_is_said_with_what_to_do(
    folder: DataFolder, content: str
) -> None:
    (folder.root / "registry-listing-spot.json").write_text(content)
    with pytest.raises(ConfigError, match=r"registry-listing-spot\.json cannot be read"):
        folder.registry("listing", "spot")


def test_a_start_captures_what_was_open_and_says_so(folder: DataFolder) -> None:
    folder.remember_registry("listing", "spot", MEMORY)
    wiring = Wiring("c", ManualClock(), random.Random(1))
    source = venues.source(CONFIG, wiring)
    directory = directory_of(CONFIG, source, wiring, folder)
    assert directory is not None
    assert directory.wanted == ("N-1", "M-1")
    assert source.connections == 1
    asked = wanted_of(CONFIG, wiring, directory)
    assert asked().streams == (("spot", "trade", "N-1"), ("spot", "trade", "M-1"))
    now = wiring.clock.wall_ns()
    for symbol, opens_in_s in (("M-2", 20), ("M-3", 21)):
        coming = ListedMarket(symbol=symbol, state="coming", open_ns=now + opens_in_s * 10**9)
        directory.registry.tell([coming], now)
    assert directory.registry.wanted(now)[2:] == ("M-2",), "two refreshes before it opens"
    fixed = VenueConfig(name="coinbase", symbols=("BTC-USD",))
    assert directory_of(fixed, source, wiring, folder) is None
    assert wanted_of(fixed, wiring, None)().streams == (("spot", "trade", "BTC-USD"),)


async def test_a_folder_that_takes_nothing_does_not_stop_the_registry(folder: DataFolder) -> None:
    heard: list[TelemetryEvent] = []
    wiring = Wiring("c", ManualClock(), random.Random(1), heard.append)
    directory = directory_of(CONFIG, venues.source(CONFIG, wiring), wiring, folder)
    assert directory is not None
    (folder.root / "registry-listing-spot.making").mkdir()
    await directory._keep(RecordingSink())
    assert [type(event) for event in heard] == [RegistryNotKept]


def test_numbers_of_a_venue_are_added_up() -> None:
    told = [("v", {"open": 1, "wanted": 1}), ("w", {"open": 0}), ("v", {"open": 2, "wanted": 0})]
    assert [(each.labels["venue"], each.labels["state"], each.value) for each in samples(told)] == [
        ("v", "open", 3),
        ("v", "wanted", 1),
        ("w", "open", 0),
    ]
