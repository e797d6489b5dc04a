"""``forebay lab``: simulated exchanges and their truth."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.cli.output import command, err
from forebay.lab.exchanges import NAMES, check_venue, venue_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.lab.exchanges.market import MarketConfig
    from forebay.lab.exchanges.server import Running, ServerConfig

_LOOK_S = 0.25
"""So often is looked whether the market has closed."""

app = typer.Typer(
    help="Simulated exchanges with a truth that can be computed, to test captures against.",
    no_args_is_help=True,
)

Venue = Annotated[str, typer.Argument(help=f"Venue to simulate: {', '.join(NAMES)}.")]
Seed = Annotated[int, typer.Option(help="Another seed is another market.")]
Symbols = Annotated[
    str,
    typer.Option(
        help="Products, comma-separated; of kalshi tickers, NAME*COUNT for as many made-up ones, "
        "and =idle behind those in which nothing happens."
    ),
]
StepUs = Annotated[
    int | None,
    typer.Option(min=1, help="Venue time between two events of a symbol, µs; else as --rate says."),
]
Rate = Annotated[
    float | None,
    typer.Option(min=0.001, help="Events a second, all symbols; 1000 for each unless said."),
]
RATE = 1000.0
Bars = Annotated[
    str,
    typer.Option(
        help="Bars of REST instead of the market's own: SYMBOL=FILE.csv or SYMBOL=COUNT, "
        "comma-separated."
    ),
]
Keys = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the account's keys, where the venue wants a signature; they are made if "
        "need be. A private one for a while unless said.",
    ),
]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="0 is any free one.")]


@app.command(
    epilog="Example: forebay lab serve coinbase --seed 1 --rate 5000 --faults drop=0.001,late=0.01"
)
def serve(
    venue: Venue,
    *,
    seed: Seed = 1,
    symbols: Symbols = "BTC-USD,ETH-USD",
    rate: Rate = None,
    events: Annotated[
        int | None, typer.Option(min=1, help="Stop the market after so many events, all symbols.")
    ] = None,
    faults: Annotated[
        str,
        typer.Option(
            help="Probabilities per trade: drop, duplicate, reorder, disconnect, halfopen, "
            "corrupt, late; the same per ticker as ticker_drop …, per change of the book as "
            "book_disconnect …; per REST request: rate_limit."
        ),
    ] = "",
    start: Annotated[
        str,
        typer.Option(
            help="Venue time of event 0: ISO 8601, nanoseconds; or now: events happen as they come."
        ),
    ] = "2026-01-01T00:00:00Z",
    step_us: StepUs = None,
    bars: Bars = "",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Websocket port; 0: any.")] = 0,
    rest_port: Port = 0,
    truth_port: Port = 0,
    rest_limit: Annotated[
        bool, typer.Option("--rest-limit", help="Limit REST requests as the venue does.")
    ] = False,
    keys: Keys = None,
) -> None:
    """Serve a simulated exchange on loopback until stopped.

    The first line on stdout is one JSON document with ws_url, rest_url and truth_url; what to type
    next is on stderr. The market's clock starts with the first accepted subscription, and venue
    time passes as --rate says.
    """
    check_venue(venue)
    from forebay.lab.exchanges.exchange import ExchangeConfig
    from forebay.lab.exchanges.server import ServerConfig
    from forebay.lab.faults import parse_faults
    from forebay.lab.truth.histories import parse_histories

    model = venue_named(venue)
    names, idle = model.parse_symbols(symbols)
    market = _market(seed, names, rate, start, step_us, events=events)
    market = dataclasses.replace(market, idle=idle, bars=parse_histories(bars, seed))
    with tempfile.TemporaryDirectory(prefix="forebay-lab-") as folder:
        model = model.with_account(keys or Path(folder))
        exchange = ExchangeConfig(model, market, parse_faults(faults))
        raise typer.Exit(_serve(ServerConfig(exchange, port, rest_port, truth_port, rest_limit)))


@app.command(
    epilog="Example: forebay lab truth coinbase --seed 1 --symbols BTC-USD --from 0 --to 9 --digest"
)
def truth(
    venue: Venue,
    *,
    seed: Seed = 1,
    symbols: Symbols,
    first: Annotated[int, typer.Option("--from", min=0, help="First index, included.")],
    end: Annotated[int, typer.Option("--to", min=0, help="Last index, excluded.")],
    channel: Annotated[
        str,
        typer.Option(help="trade, ticker, quote, book_delta, book_snapshot (as of each), bar."),
    ] = "trade",
    digest: Annotated[
        bool, typer.Option("--digest", help="Print count and sums per symbol instead.")
    ] = False,
    start: Annotated[
        str, typer.Option(help="Venue time of event 0, as the simulator was told.")
    ] = "2026-01-01T00:00:00Z",
    rate: Rate = None,
    step_us: StepUs = None,
) -> None:
    """Print what a simulated exchange says: NDJSON events, or their digest.

    Events 0 to 99 of a symbol are its history; the live market goes on from 100. Indices are the
    trades' in every channel: of a ticker or bar, what belongs to a trade of the range is printed.
    With --rate, name the symbols that are served; or take step_us from the simulator's truth_url.
    """
    check_venue(venue)
    from forebay.lab.exchanges.market import step_of
    from forebay.lab.truth import (
        TruthDigest,
        events,
        parse_start,
        source_named,
    )

    model = venue_named(venue)
    start_ns, (names, _) = parse_start(start), model.parse_symbols(symbols)
    step = step_us or step_of(rate or RATE * len(names), len(names))
    markets = [model.trades(seed, symbol, start_ns=start_ns, step_us=step) for symbol in names]
    sources = model.sources
    told = {m.symbol: events(source_named(channel, sources)(m), first, end) for m in markets}
    if digest:
        _print({symbol: TruthDigest.of(each).document() for symbol, each in told.items()})
        return
    for each in told.values():
        for event in each:
            _print(event.document())


def _market(
    seed: int,
    symbols: tuple[str, ...],
    rate: float | None,
    start: str,
    step_us: int | None,
    *,
    events: int | None,
) -> MarketConfig:
    from forebay.clock import SystemClock
    from forebay.lab.exchanges.market import MarketConfig
    from forebay.lab.truth import parse_start

    now_ns = None
    if start == "now":
        start, now_ns = str(SystemClock.wall_ns()), SystemClock.monotonic_ns()
    rate = rate or RATE * max(1, len(symbols))
    market = MarketConfig(seed, symbols, rate, events, parse_start(start), step_us or 1, now_ns)
    return market if step_us else market.in_step()


def _serve(config: ServerConfig) -> int:
    """Serve until SIGTERM (exit 0) or SIGINT (exit 130)."""
    import asyncio
    import signal

    import uvloop

    from forebay.clock import SystemClock
    from forebay.lab.exchanges.server import running

    async def main() -> int:
        loop = asyncio.get_running_loop()
        stopped: asyncio.Future[int] = loop.create_future()

        def stop(code: int) -> None:
            if not stopped.done():
                stopped.set_result(code)

        loop.add_signal_handler(signal.SIGTERM, stop, 0)
        loop.add_signal_handler(signal.SIGINT, stop, 130)
        async with running(config, SystemClock()) as server:
            _greet(server)
            ends: set[asyncio.Future[Any]] = {stopped, server.ticking}
            closed = False
            while not any(each.done() for each in ends):
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait(ends, timeout=_LOOK_S, return_when=first)
                if server.exchange.market.finished and not closed:
                    closed = True
                    err.print("The market has closed. Its truth can be asked for until Ctrl-C.")
            if server.ticking.done():
                server.ticking.result()
            return stopped.result()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def _greet(server: Running) -> None:
    """Say where it is served, and on stderr what to type next."""
    config = server.exchange.config
    hello = {
        "venue": config.venue.name,
        "ws_url": server.ws_url,
        "rest_url": server.rest_url,
        "truth_url": server.truth_url,
        "seed": config.market.seed,
        "start": config.market.start_ns,
        "pid": os.getpid(),
        **config.venue.account(),
    }
    _print(hello)
    sys.stdout.flush()
    last = " or after the last event" if config.market.events else ""
    what = f"--venue {config.venue.name} --symbols {','.join(config.market.symbols)}"
    where = f"--ws-url {server.ws_url} --rest-url {server.rest_url}"
    if files := _files(server):
        what, where = "-c lab.toml", ""
        says = "One file says" if len(files) == 1 else "Two files say"
        text = "\n".join(files)
        err.print(f"{says} what to capture:\n\n{text}\n", markup=False)
    err.print(
        f"In a second terminal capture it; in a third, while that runs{last}, compare:\n\n"
        f"  {' '.join(f'{command()} run {what} {where} --data lab-data'.split())}\n"
        f"  {command()} audit --data lab-data --truth {server.truth_url}\n",
        markup=False,
    )


def _files(server: Running) -> list[str]:
    """Return commands that write a configuration, and secrets that are in no file yet.

    There are none of a venue that wants no secrets.
    """
    config = server.exchange.config
    secret = [f"{name} = {json.dumps(value)}" for name, value in config.venue.secrets.items()]
    there = config.venue.account().get("credentials_file")
    if not secret and not there:
        return []
    told = {
        "name": config.venue.name,
        "market": server.exchange.market_type,
        "symbols": config.market.symbols,
        "ws_url": server.ws_url,
        "rest_url": server.rest_url,
        "credentials_file": there or "lab-secrets.toml",
    }
    lines = ["[[venues]]", *(f"{name} = {json.dumps(value)}" for name, value in told.items())]
    files = {"lab.toml": lines, **({} if there else {"lab-secrets.toml": secret})}
    return [
        f"  cat > {name} <<'EOF'\n{chr(10).join(content)}\nEOF" for name, content in files.items()
    ]


def _print(document: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
