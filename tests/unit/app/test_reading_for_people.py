"""What a notebook sees: names, a picture of the folder, several symbols, floats, times in UTC."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forebay
from forebay.app.offline.replay import replay
from forebay.app.querying import shaped
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock
from forebay.domain.schema import DECIMAL, DECIMALS
from forebay.errors import ConfigError, Unreachable
from forebay.telemetry import ignore
from tests.support.frames import T0, match, rfc3339, snapshot, ticker
from tests.support.pages import blocks, page

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SECOND = 10**9


def written(root: Path, frames: Iterable[tuple[int, bytes]]) -> DataFolder:
    """Return a folder with frames of such seconds."""
    file, folder = root / "made.rec", DataFolder(root / "data")
    file.write_bytes(b"".join(b"%.6f: %s\n" % (T0 / 1e9 + second, raw) for second, raw in frames))
    replay([file], "coinbase", folder, Config(), clock=ManualClock(), observer=ignore)
    return folder


def trade(native: int, symbol: str, price: str) -> tuple[int, bytes]:
    time = rfc3339(T0 + native * SECOND)
    return native, match(native, symbol, price=price, size="0.1", time=time)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> forebay.Data:
    frames = [
        *(trade(native, "BTC-USD", f"100.{native}") for native in range(1, 6)),
        *(trade(native, "ETH-USD", f"10.{native}") for native in range(1, 4)),
        (6, ticker(time=rfc3339(T0 + 6 * SECOND))),
        (7, snapshot([["100", "1"]], [["101", "3.50"]])),
    ]
    return forebay.open(written(tmp_path_factory.mktemp("people"), frames).root)


def test_the_package_says_what_is_in_it() -> None:
    assert {"open", "resilience", "Data", "__version__"} <= {*dir(forebay)}
    assert all(hasattr(forebay, name) for name in dir(forebay))
    assert forebay.resilience.CircuitBreaker("b").name == "b"


def test_a_folder_says_where_it_is_and_what_is_in_it(data: forebay.Data) -> None:
    text = repr(data)
    assert str(data.folder.root) in text
    assert "5 streams, 11 rows, 2021-04-17T16:43:38Z to 2021-04-17T16:43:44Z" in text


def test_a_symbol_without_books_is_told_so(data: forebay.Data) -> None:
    with pytest.raises(ConfigError, match=r"No order book of ETH-USD is stored here\."):
        data.book("ETH-USD")


def test_a_folder_that_cannot_be_read_has_a_picture_all_the_same(tmp_path: Path) -> None:
    opened = forebay.open(DataFolder(tmp_path / "data").create().root)
    assert "no database" in repr(opened)


def test_symbols_are_names(data: forebay.Data) -> None:
    assert data.symbols() == ["BTC-USD", "ETH-USD"]


def test_several_symbols_are_one_table_in_order_of_time(data: forebay.Data) -> None:
    both = data.trades(["BTC-USD", "ETH-USD"])
    assert both["symbol"].to_pylist().count("ETH-USD") == 3
    assert both.equals(data.trades())
    assert both.equals(data.trades(iter(("ETH-USD", "BTC-USD", "BTC-USD"))))
    times = both["event_ts"].to_pylist()
    assert times == sorted(times)
    assert len(data.quotes(["BTC-USD"])) == len(data.tickers(("BTC-USD", "ETH-USD"))) == 1
    assert len(data.bars(["BTC-USD", "ETH-USD"])) == 0


def test_books_of_several_symbols_are_named(data: forebay.Data) -> None:
    table = data.book(["BTC-USD"], floats=True)
    assert table["symbol"].to_pylist() == ["BTC-USD", "BTC-USD"]
    assert table["size"].to_pylist() == [1.0, 3.5]
    assert table.schema.metadata[b"BTC-USD.state"] == b"known"


def test_a_limit_takes_the_first(data: forebay.Data) -> None:
    assert data.trades("BTC-USD", limit=2).equals(data.trades("BTC-USD").slice(0, 2))
    assert len(data.trades("BTC-USD", limit=0)) == 0
    for wrong in (-1, 1.5, "2"):
        with pytest.raises(ConfigError, match="limit is"):
            data.trades("BTC-USD", limit=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["BTC-USDX", "btc-usd", ["BTC-USD", "BTCUSD"]])
def test_an_unknown_symbol_is_an_error_that_names_the_one_meant(
    data: forebay.Data, wrong: str | list[str]
) -> None:
    for ask in (data.trades, data.quotes, data.tickers, data.bars, data.book, data.follow):
        with pytest.raises(ConfigError, match="Did you mean 'BTC-USD'"):
            ask(wrong)


def test_an_unknown_symbol_like_no_other_is_told_those_that_there_are(data: forebay.Data) -> None:
    with pytest.raises(ConfigError, match="There are: BTC-USD, ETH-USD"):
        data.trades("ZZZ")
    for wrong in ([], [1], 1):
        with pytest.raises(ConfigError, match="no symbol"):
            data.trades(wrong)  # type: ignore[arg-type]


def test_a_known_symbol_without_events_is_an_empty_table(data: forebay.Data) -> None:
    assert len(data.quotes("ETH-USD")) == 0
    assert len(data.trades("ETH-USD", start="2030-01-01")) == 0


def test_floats_and_zones_are_given_if_asked(data: forebay.Data) -> None:
    plain = data.trades("BTC-USD")
    asked = data.trades("BTC-USD", floats=True, utc=True)
    assert (plain.schema.field("price").type, plain.schema.field("event_ts").type) == (
        DECIMAL,
        pa.timestamp("ns"),
    )
    assert asked["price"].to_pylist() == [100.1, 100.2, 100.3, 100.4, 100.5]
    assert {asked.schema.field(name).type for name in ("price", "size")} == {pa.float64()}
    assert {
        asked.schema.field(name).type for name in ("event_ts", "exchange_ts", "received_ts")
    } == {pa.timestamp("ns", "UTC")}
    assert asked["event_ts"].cast(pa.int64()).equals(plain["event_ts"].cast(pa.int64()))
    assert data.sql("SELECT 0.1::DECIMAL(38, 18) AS a", floats=True)["a"].to_pylist() == [0.1]


def test_pandas_calculates_with_them(data: forebay.Data) -> None:
    pd = pytest.importorskip("pandas")
    frame = data.trades("BTC-USD", floats=True, utc=True).to_pandas()
    bars = frame.set_index("event_ts").price.resample("1s").ohlc()
    assert bars["close"].tolist() == [100.1, 100.2, 100.3, 100.4, 100.5]
    assert not (frame.event_ts > pd.Timestamp.now("UTC")).any()
    assert (frame.price * frame["size"]).sum() == pytest.approx(50.15)


def test_the_page_runs(data: forebay.Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.folder.root.parent)
    monkeypatch.setattr(forebay, "open", lambda _: forebay.Data(data.folder.root), raising=False)
    names: dict[str, Any] = {}
    for block in blocks(page("how-to/python"), "python"):
        exec(compile(block, "how-to/python.md", "exec"), names)  # noqa: S102 - our own page
    assert len(names["both"]) == len(names["all_of_them"]) == 8
    assert len(names["one"]) == 5
    assert names["vwap"]["size"].to_pylist() == [0.8]
    assert names["position"] == names["table"].schema.metadata[b"position"].decode()
    if pd := importlib.util.find_spec("pandas"):
        names["pd"] = pd.loader and importlib.import_module("pandas")
        (block,) = blocks(page("how-to/python"), "python pandas")
        exec(compile(block, "how-to/python.md", "exec"), names)  # noqa: S102


@given(st.lists(st.decimals(-(10**19), 10**19, places=18, allow_nan=False) | st.none()))
def test_floats_are_the_nearest_ones(values: list[object]) -> None:
    table = pa.table({"one": pa.array(values, DECIMAL)})
    told = shaped(table, floats=True, utc=True)["one"].to_pylist()
    assert told == [None if value is None else float(value) for value in values]  # type: ignore[arg-type]


def test_lists_of_decimals_are_lists_of_floats() -> None:
    table = pa.table({"many": pa.array([["0.1", None], None, []], pa.list_(pa.string()))})
    decimals = table.set_column(0, "many", table["many"].cast(DECIMALS))
    assert shaped(decimals, floats=True, utc=False)["many"].to_pylist() == [[0.1, None], None, []]


def test_a_folder_without_streams_refuses_no_symbol(tmp_path: Path) -> None:
    opened = forebay.open(DataFolder(tmp_path / "data").create().root)
    with pytest.raises(Unreachable):
        opened.trades("BTC-USD")
