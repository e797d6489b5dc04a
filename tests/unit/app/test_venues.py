"""What a configuration says of a venue, and venues from outside."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from forebay.app.wiring import venues
from forebay.app.wiring.config import VenueConfig
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock
from forebay.domain.channels import Channel
from forebay.domain.listing import Directory, ListPage
from forebay.errors import ConfigError
from forebay.sources import coinbase
from forebay.sources.live import LiveSource, Wiring
from tests.exam import made
from tests.exam.made.protocol import EDITIONS, Edition
from tests.support.pages import page, ticked

if TYPE_CHECKING:
    from pathlib import Path

EDITION = Edition("native", "id")
PLUGIN = "tests.exam.made:made_native_id"
KINDS = ("trade", "quote", "book_snapshot", "book_delta")


@pytest.fixture(autouse=True)
def _venues(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test installs is gone after it."""
    monkeypatch.setattr(venues, "VENUES", dict(venues.VENUES))


class Many:
    """A parser of several kinds."""

    name = "many/1"

    def __init__(self) -> None:
        self.channels = {kind: Channel(kind, "content", "time") for kind in KINDS}


def configured(name: str = "many", **fields: object) -> VenueConfig:
    return VenueConfig(name=name, symbols=("A-B",), **fields)  # type: ignore[arg-type]


@pytest.fixture
def many() -> None:
    parser = Many()
    venues.VENUES["many"] = replace(coinbase.VENUE, name="many", title="Many", parser=parser)  # type: ignore[arg-type]


def test_every_venue_has_a_parser_and_calls_itself_as_it_is_called() -> None:
    assert set(venues.parsers()) == set(venues.VENUES)
    assert all(venue.name == name for name, venue in venues.VENUES.items())
    for venue in venues.VENUES.values():
        assert set(venue.default_channels) <= set(venue.channels)
        assert set(venue.history) <= set(venue.channels)


def test_the_page_of_a_venue_names_its_channels_and_what_is_not_captured_or_seen() -> None:
    for name, venue in venues.VENUES.items():
        text = page(f"explanation/{name}")
        assert {*venue.channels, *venue.not_captured} <= {*ticked(text)}
        assert venue.cannot_see in " ".join(text.split())
        for poll in venue.polls.values():
            assert f"{poll.after_s:g} s after each" in text


def test_a_near_miss_is_suggested() -> None:
    assert venues.check_venue("coinbase") == "coinbase"
    with pytest.raises(ConfigError, match="Did you mean 'coinbase'"):
        venues.check_venue("coinbas")
    with pytest.raises(ConfigError, match="There is: coinbase"):
        venues.check_venue("xyz")


@pytest.mark.parametrize(
    "url", ["ws://[::1", "ws://localhost:65536", "ws://localhost:x", "http://localhost", "ws://"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        venues.check_addresses(configured("coinbase", ws_url=url))


def test_addresses_are_accepted() -> None:
    config = configured("coinbase", ws_url="ws://[::1]:65535/x", rest_url="https://h")
    venues.check_addresses(config)


# ---------------------------------------------------------------------- channels


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ((), ("trade",)),
        (("quote",), ("quote",)),
        (("Quotes", "trades"), ("trade", "quote")),
        (("book",), ("book_snapshot", "book_delta")),
        (("books", "book_delta"), ("book_snapshot", "book_delta")),
        (("all",), KINDS),
    ],
)
def test_a_word_means_a_kind_its_plural_or_what_kinds_begin_with(
    words: tuple[str, ...], meant: tuple[str, ...]
) -> None:
    assert venues.kinds(configured(channels=words)) == meant


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("word", "said"),
    [("qoute", "Did you mean 'quote'"), ("xyz", "There is: trade, quote, book, all"), ("", "''")],
)
def test_a_word_that_means_nothing_is_refused(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"Many has no channel .*{said}"):
        venues.check(configured(channels=(word,)))


@pytest.mark.usefixtures("many")
def test_a_market_or_a_depth_that_the_venue_has_not_is_refused() -> None:
    venues.check(configured(market="spot"))
    with pytest.raises(ConfigError, match=r"no market 'perpetual'\. There is: spot"):
        venues.check(configured(market="perpetual"))
    with pytest.raises(ConfigError, match=r"no books of depth 5\. Leave depth out"):
        venues.check(configured(depth=5))
    venues.VENUES["many"] = replace(venues.VENUES["many"], depths=(10, 50))
    venues.check(configured(depth=50))
    with pytest.raises(ConfigError, match="There is: 10, 50"):
        venues.check(configured(depth=5))


# ----------------------------------------------------------------------- plugins


def test_a_plugin_is_a_venue_as_the_others_and_the_folder_remembers_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data").create()
    config = configured(EDITION.venue, plugin=PLUGIN, ws_url="ws://h", rest_url="http://h")
    venues.install(folder, [config])
    venues.check(config)
    source = venues.source(config, Wiring("c", ManualClock(), random.Random(0)))
    assert isinstance(source, LiveSource)
    assert source.connections == 2, "one that is connected, and one that is polled"

    venues.remember(folder, [config])
    del venues.VENUES[EDITION.venue]
    venues.install(folder)
    assert venues.parsers()[EDITION.venue] is made.VENUES[EDITION.venue].parser


def test_a_folder_without_plugins_has_no_file_for_them(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data").create()
    before = sorted(folder.root.iterdir())
    venues.remember(folder, [configured("coinbase")])
    assert sorted(folder.root.iterdir()) == before
    assert folder.plugins() == {}


def test_every_edition_of_the_exam_is_named_as_its_plugin() -> None:
    for edition in EDITIONS:
        assert venues.load(edition.venue, made.plugin(edition)) is made.VENUES[edition.venue]


@pytest.mark.parametrize(
    ("name", "plugin", "said"),
    [
        ("coinbase", PLUGIN, "has the name of one that is built in"),
        ("mine", "tests.exam.made", "names no object"),
        ("mine", ":VENUE", "names no object"),
        ("mine", "no.such.module:VENUE", "cannot be imported: ModuleNotFoundError.*PYTHONPATH"),
        ("mine", "broken_plugin:VENUE", "cannot be imported: ZeroDivisionError"),
        ("mine", "tests.exam.made:NOTHING", r"is no forebay\.sources\.venue\.Venue"),
        ("mine", "tests.exam.made:plugin", r"is no forebay\.sources\.venue\.Venue"),
        ("mine", PLUGIN, "calls itself 'made-native-id'"),
    ],
)
def test_a_plugin_that_is_none_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, plugin: str, said: str
) -> None:
    (tmp_path / "broken_plugin.py").write_text("1 / 0\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.raises(ConfigError, match=said) as caught:
        venues.install(DataFolder(tmp_path), [configured(name, plugin=plugin)])
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_a_list_of_plugins_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "plugins.json").write_text("[")
    with pytest.raises(ConfigError, match=r"plugins\.json cannot be read"):
        venues.install(DataFolder(tmp_path))


# ---------------------------------------------------------------------- patience


def test_ids_that_one_page_answers_are_asked_for_together() -> None:
    assert venues.page_rows("coinbase") == 1000
    for edition in EDITIONS:
        venues.VENUES[edition.venue] = made.VENUES[edition.venue]
        assert venues.page_rows(edition.venue) == (10 if edition.history == "id" else 1)


def test_a_venue_knows_how_long_it_may_be_silent_unless_it_is_said() -> None:
    venues.VENUES["quiet"] = replace(coinbase.VENUE, name="quiet", stale_s=300.0)
    wiring = Wiring("c", ManualClock(), random.Random(0))
    for said, stale_s in ((None, 300.0), (7.0, 7.0)):
        source = venues.source(configured("quiet", stale_after_s=said), wiring)
        assert isinstance(source, LiveSource)
        assert source._timings.feed.stale_s == stale_s


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (" BTC-USD", "Did you mean 'BTC-USD'?"),
        ("btc-usd", "Did you mean 'BTC-USD'?"),
        ("BTC/USD", "Did you mean 'BTC-USD'?"),
        ("btc_usd\n", "Did you mean 'BTC-USD'?"),
        ("BTCUSD", "forebay symbols --venue coinbase"),
        ("", "forebay symbols"),
    ],
)
def test_a_symbol_of_odd_spelling_is_refused_before_anything_is_reached(
    word: str, said: str
) -> None:
    config = VenueConfig(name="coinbase", symbols=("BTC-USD", word))
    with pytest.raises(ConfigError) as refused:
        venues.check(config)
    assert repr(word) in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("word", "meant"), [("BTCUSD", "BTC-USD"), ("BTC-USDX", "BTC-USD"), ("DOGE-EUR", "")]
)
def test_the_symbol_that_is_probably_meant_is_one_that_there_is(word: str, meant: str) -> None:
    assert venues.near(word, ["BTC-USD", "ETH-USD"]) == meant


def test_a_proxy_that_cannot_be_is_refused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:secret@p:1")
    with pytest.raises(ConfigError) as caught:
        venues.check(VenueConfig(name="coinbase", symbols=("BTC-USD",)))
    assert str(caught.value).count("HTTPS_PROXY") == 1
    assert "secret" not in str(caught.value)


# -------------------------------------------------------- markets that come and go


@pytest.fixture
def listing(many: None) -> None:
    directory = Directory(
        first=lambda query: f"/m?{query.head}",
        read=lambda _: ListPage(()),
        following=lambda *_: "",
        kinds=("book_snapshot",),
        pushed=("book_snapshot",),
    )
    venues.VENUES["listing"] = replace(venues.VENUES["many"], name="listing", directory=directory)


@pytest.mark.usefixtures("listing")
def test_patterns_are_for_venues_that_list_what_comes_and_goes() -> None:
    for name in ("coinbase", "many"):
        with pytest.raises(ConfigError, match=r"takes no patterns: 'A-\*'") as told:
            venues.check(VenueConfig(name=name, symbols=("A-*", "B-C")))
        assert "listing" in str(told.value), "and says for which they are"
    config = VenueConfig(name="listing", symbols=("A-*", "B-?", "B-C"))
    venues.check(config)
    assert venues.exact(config) == ("B-C",)
    with pytest.raises(ConfigError, match="has no symbol 'b'"):
        venues.check(VenueConfig(name="listing", symbols=("A-*", "b")))


@pytest.mark.usefixtures("listing")
def test_looking_for_markets_is_for_venues_that_list_what_comes_and_goes() -> None:
    venues.check(VenueConfig(name="listing", symbols=("A-*",), refresh_s=60.0))
    with pytest.raises(ConfigError, match="refresh_s has no effect"):
        venues.check(VenueConfig(name="many", symbols=("B-C",), refresh_s=60.0))


@pytest.mark.usefixtures("listing")
def test_what_a_list_tells_is_not_asked_for_by_name() -> None:
    asked = VenueConfig(name="listing", symbols=("A-*",), channels=("all",))
    assert venues.kinds(asked) == ("trade", "quote", "book_delta")
    with pytest.raises(ConfigError):
        venues.kinds(VenueConfig(name="listing", symbols=("A-*",), channels=("book_snapshot",)))


@pytest.mark.usefixtures("listing")
def test_a_source_of_patterns_begins_with_what_is_written_out() -> None:
    wiring = Wiring("c", ManualClock(), random.Random(1))
    for symbols, connections in ((("A-*",), 0), (("A-*", "B-C"), 1)):
        config = VenueConfig(name="listing", symbols=symbols, channels=("trade",))
        assert venues.source(config, wiring).connections == connections
        heard = venues.pushed(config, wiring)
        assert heard is not None
        assert heard.connections == 1, "all markets over one"
    assert venues.pushed(VenueConfig(name="many", symbols=("B-C",)), wiring) is None


@pytest.mark.usefixtures("listing")
@pytest.mark.parametrize(
    ("venue", "word", "symbol"),
    [
        ("coinbase", "btc-usd", "BTC-USD"),
        ("coinbase", "BTC-USD", "BTC-USD"),
        ("listing", "kx-*", "kx-*"),
        ("nobody", "a", "A"),
    ],
)
def test_a_symbol_is_typed_as_it_is_or_in_small_letters(venue: str, word: str, symbol: str) -> None:
    assert venues.spelled(venue, word) == symbol


def test_a_name_of_mixed_case_is_kept_byte_for_byte() -> None:
    """CN10: ``AAPLx/USD`` is another name than ``AAPLX/USD``."""
    venues.VENUES["mixed"] = replace(coinbase.VENUE, name="mixed", spelling=r"\S+")
    assert venues.spelled("mixed", "AAPLx/USD") == "AAPLx/USD"
