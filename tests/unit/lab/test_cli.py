"""`forebay lab` as its users meet it: in a terminal and as a process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from forebay.app.wiring import venues
from forebay.app.wiring.config import load
from forebay.cli.main import app
from forebay.lab.exchanges.market import Market, MarketConfig
from forebay.lab.truth import SOURCES, Trades, TruthDigest, events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROCESS = [sys.executable, "-c", "from forebay.cli.main import main; main()", "lab"]


def lab(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["lab", *arguments], env={"COLUMNS": "300", "NO_COLOR": "1"})
    return result.exit_code, result.stdout, result.stderr


def truth(*arguments: str) -> tuple[int, str, str]:
    return lab("truth", "coinbase", "--seed", "7", *arguments)


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*PROCESS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def hello(server: subprocess.Popen[str]) -> dict[str, Any]:
    assert server.stdout is not None
    document: dict[str, Any] = json.loads(server.stdout.readline())
    return document


# ------------------------------------------------------------------------- truth


def test_truth_prints_events_from_included_to_excluded() -> None:
    code, out, _ = truth("--symbols", "BTC-USD,ETH-USD", "--from", "3", "--to", "6")
    expected = [
        trade.document()
        for symbol in ("BTC-USD", "ETH-USD")
        for trade in Trades(7, "coinbase", symbol).events(3, 6)
    ]
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == expected
    assert list(expected[0]) == [
        "index",
        "event_id",
        "venue",
        "symbol",
        "trade_id",
        "price",
        "size",
        "side",
        "event_ts",
        "time",
    ]


def test_truth_prints_one_document_of_digests() -> None:
    code, out, _ = truth("--symbols", "BTC-USD", "--from", "3", "--to", "50", "--digest")
    expected = TruthDigest.of(Trades(7, "coinbase", "BTC-USD").events(3, 50)).document()
    assert code == 0
    assert json.loads(out) == {"BTC-USD": expected}


def test_truth_takes_start_and_step() -> None:
    when = ("--start", "2020-02-02T00:00:00Z", "--step-us", "5")
    _, out, _ = truth("--symbols", "BTC-USD", "--from", "999", "--to", "1000", *when)
    start_ns = 1_580_601_600_000_000_000
    expected = Trades(7, "coinbase", "BTC-USD", start_ns=start_ns, step_us=5).event(999)
    assert json.loads(out) == expected.document()


def test_truth_at_a_rate_is_what_a_market_of_that_rate_tells() -> None:
    symbols = ("BTC-USD", "ETH-USD", "SOL-USD")
    market = Market("coinbase", MarketConfig(7, symbols, 200.0).in_step())
    listed = ("--symbols", ",".join(symbols), "--from", "99", "--to", "103")
    _, out, _ = truth(*listed, "--rate", "200")
    assert [json.loads(line) for line in out.splitlines()] == [
        trade.document() for symbol in symbols for trade in market.trades[symbol].events(99, 103)
    ]
    assert truth(*listed) == truth(*listed, "--rate", "3000") == truth(*listed, "--step-us", "1000")


def test_the_seed_can_be_left_out() -> None:
    options = ("coinbase", "--symbols", "BTC-USD", "--from", "3", "--to", "50")
    assert lab("truth", *options) == lab("truth", *options, "--seed", "1")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("truth", "mtgox", "--seed", "1", "--symbols", "A-B", "--from", "0", "--to", "1"),
            "mtgox",
        ),
        (
            ("serve", "mtgox", "--seed", "1"),
            "There is no simulator of 'mtgox'. There is coinbase, kalshi, massive.",
        ),
        (("serve", "coinbase", "--seed", "1", "--symbols", "btc"), "'btc' is not a symbol."),
        (("serve", "coinbase", "--seed", "1", "--faults", "dorp=1"), "Did you mean 'drop'?"),
        (("serve", "coinbase", "--seed", "1", "--faults", "drop=7"), "is not a probability"),
        (("serve", "coinbase", "--seed", "1", "--start", "noon"), "is not a time"),
        (("serve", "coinbase", "--seed", "1", "--rate", "0"), "--rate"),
    ],
)
def test_wrong_usage_is_exit_2_and_says_what_is_wrong(
    arguments: tuple[str, ...], says: str
) -> None:
    code, out, err = lab(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["serve", "truth"])
def test_help_has_an_example(command: str) -> None:
    code, out, _ = lab(command, "--help")
    assert code == 0
    assert f"Example: forebay lab {command} coinbase --seed 1" in out


def test_the_commands_load_nothing_heavy_until_they_run() -> None:
    program = (
        "import sys, forebay.cli.lab\n"
        "print([m for m in ('aiohttp', 'picows', 'uvloop') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_a_reader_that_has_enough_is_no_error() -> None:
    many = (
        "truth",
        "coinbase",
        "--seed",
        "1",
        "--symbols",
        "A1-B1",
        "--from",
        "0",
        "--to",
        "50000",
    )
    with process(*many) as printing:
        assert printing.stdout is not None
        assert printing.stderr is not None
        json.loads(printing.stdout.readline())
        printing.stdout.close()
        assert printing.stderr.read() == ""
        assert printing.wait(30) == 0


# ------------------------------------------------------------------------- serve


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_serve_says_where_it_is_in_one_line_and_stops_when_told(
    sent: signal.Signals, code: int
) -> None:
    with process("serve", "coinbase", "--seed", "7", "--start", "now") as server:
        said = hello(server)
        assert list(said) == [
            "venue",
            "ws_url",
            "rest_url",
            "truth_url",
            "seed",
            "start",
            "pid",
        ]
        assert said["venue"] == "coinbase"
        assert (said["seed"], said["pid"]) == (7, server.pid)
        assert int(said["start"]) > 1_767_225_600_000_000_000
        with urllib.request.urlopen(f"{said['truth_url']}/", timeout=10) as answer:  # noqa: S310 - our own, on loopback
            status = json.load(answer)
        assert status["start"] == said["start"]
        assert status["symbols"]["ETH-USD"] == {"first": None, "last": 99}
        server.send_signal(sent)
        assert server.wait(20) == code
        assert server.stdout is not None
        assert server.stdout.read() == ""
        assert server.stderr is not None
        hint = server.stderr.read()
    addresses = f"--ws-url {said['ws_url']} --rest-url {said['rest_url']}"
    assert f" run --venue coinbase --symbols BTC-USD,ETH-USD {addresses} --data lab-data\n" in hint
    assert f" audit --data lab-data --truth {said['truth_url']}\n" in hint


def test_what_is_said_to_capture_kalshi_with_signs_as_it_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("kalshi", "--symbols", "KXA-1,KXA-2", "--keys", str(tmp_path / "keys"))
    with process("serve", *arguments) as server:
        said = hello(server)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        assert server.stderr is not None
        hint = server.stderr.read()
    assert " run -c lab.toml --data lab-data\n" in hint
    (tmp_path / "lab.toml").write_text(hint.split("<<'EOF'\n")[1].split("EOF\n")[0])
    monkeypatch.chdir(tmp_path)
    venue = load(tmp_path / "lab.toml", {})[0].venues[0]
    assert (venue.name, venue.ws_url, venue.symbols) == (
        "kalshi",
        said["ws_url"],
        ("KXA-1", "KXA-2"),
    )
    assert venues.credentials(venue)["key_id"] == said["key_id"]


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needing = ("cryptography", "forebay.lab.exchanges.kalshi")
    for name in [each for each in sys.modules if each.startswith(needing)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    code, _, said = lab("serve", "kalshi")
    assert (code, said.startswith("error: The driver cryptography is not installed.")) == (2, True)
    assert said.endswith('pip install ".[kalshi]"\n')


def test_serve_says_when_the_market_has_closed() -> None:
    with process("serve", "coinbase", "--seed", "7", "--start", "now") as server:
        truth = f"{hello(server)['truth_url']}/close"
        with urllib.request.urlopen(truth, data=b"", timeout=10):  # noqa: S310 - our own, on loopback
            pass
        assert server.stderr is not None
        assert any(line.startswith("The market has closed.") for line in server.stderr)


def test_a_port_in_use_is_exit_3_and_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with process("serve", "coinbase", "--seed", "1", "--port", port) as server:
            assert server.stderr is not None
            said = server.stderr.read()
            assert server.wait(20) == 3
    expected = f"Port {port} on 127.0.0.1 is in use. Choose another, or 0 for any free one."
    assert said == f"error: {expected}\n"


def test_the_same_ports_can_be_taken_again_after_a_kill() -> None:
    with process("serve", "coinbase", "--seed", "7") as server:
        first = hello(server)
        os.kill(server.pid, signal.SIGKILL)
        server.wait(20)
    ports = [first[name].rpartition(":")[2] for name in ("ws_url", "rest_url", "truth_url")]
    options = ("--port", ports[0], "--rest-port", ports[1], "--truth-port", ports[2])
    with process("serve", "coinbase", "--seed", "7", *options) as server:
        again = hello(server)
    assert [again[n] for n in ("ws_url", "truth_url")] == [
        first[n] for n in ("ws_url", "truth_url")
    ]


@pytest.mark.parametrize("channel", SOURCES)
def test_truth_is_printed_of_any_channel(channel: str) -> None:
    options = ("--symbols", "BTC-USD", "--from", "3", "--to", "50", "--step-us", "5000000")
    trades = Trades(7, "coinbase", "BTC-USD", step_us=5_000_000)
    expected = list(events(SOURCES[channel](trades), 3, 50))
    code, out, _ = truth(*options, "--channel", channel)
    _, digest, _ = truth(*options, "--channel", channel, "--digest")
    assert code == 0
    assert expected
    assert [json.loads(line) for line in out.splitlines()] == [
        json.loads(json.dumps(event.document())) for event in expected
    ]
    assert json.loads(digest) == {"BTC-USD": TruthDigest.of(expected).document()}


def test_a_channel_there_is_not_is_refused() -> None:
    code, _, said = truth("--symbols", "BTC-USD", "--from", "0", "--to", "1", "--channel", "bars")
    assert code == 2
    assert "'bars' is no channel" in said
