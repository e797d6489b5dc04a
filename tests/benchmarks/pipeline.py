"""The whole way, websocket to store: our two processes beside cryptofeed to PostgreSQL.

Frames a CPU second: for us of capture and delivery together, DuckDB included; for the peer of
cryptofeed's process alone. PostgreSQL's own work is a gift to the peer. Both get prepared trades
of three symbols, one to a message, over loopback from the same sender: we as Coinbase Exchange
``match``, cryptofeed as Coinbase Advanced Trade ``market_trades``, the venue it has.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks import frames, postgres
from tests.benchmarks.harness import OURS, ROOT, Goal, NotRun, Row, alternate, environment, sending
from tests.benchmarks.sender import text_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

PEER_PYTHON = Path(os.environ.get("BENCH_PEER_PYTHON", ROOT / "build" / "peer" / "bin" / "python"))
_TABLE = """CREATE TABLE trades (timestamp TIMESTAMPTZ, receipt TIMESTAMPTZ, exchange TEXT,
 symbol TEXT, side TEXT, amount NUMERIC(64, 32), price NUMERIC(64, 32), id TEXT, order_type TEXT)"""
"""As cryptofeed's example script for PostgreSQL creates it."""
_LIMIT_S = 120.0


def _advanced(count: int) -> Iterator[bytes]:
    """Trades as Coinbase Advanced Trade sends them (channel ``market_trades``)."""
    for number, raw in enumerate(frames.matches(count)):
        match = json.loads(raw)
        names = ("product_id", "price", "size", "time")
        trade = {name: match[name] for name in names}
        trade |= {"trade_id": str(match["trade_id"]), "side": match["side"].upper()}
        events = [{"type": "update", "trades": [trade]}]
        message = {"channel": "market_trades", "client_id": "", "timestamp": match["time"]}
        message |= {"sequence_num": number, "events": events}
        yield json.dumps(message, separators=(",", ":")).encode()


def _start(command: list[str], request: dict[str, Any], folder: str) -> subprocess.Popen[bytes]:
    """Begin a contender in ``folder``, where it may leave what it likes."""
    command = [*command, json.dumps(request)]
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE)


def _answer(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    try:
        said, _ = process.communicate(timeout=_LIMIT_S)
    finally:
        process.kill()
    if process.returncode != 0:
        raise NotRun(f"a process ended with exit code {process.returncode}")
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def _ours(url: str, count: int) -> float:
    """Capture and deliver at the same time; frames a CPU second of both."""
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        request = {"url": url, "folder": f"{folder}/journal", "frames": count}
        capturing = _start([sys.executable, "-m", "tests.benchmarks.recorder"], request, folder)
        request = {"folder": folder, "frames": count - 1}  # the last heartbeat of a round may wait
        delivering = _start([sys.executable, "-m", "tests.benchmarks.deliverer"], request, folder)
        captured, stored = _answer(capturing), _answer(delivering)
        return float(stored["frames"] / (captured["cpu_s"] + stored["cpu_s"]))


def _peers(url: str, count: int, reached: dict[str, Any]) -> float:
    asyncio.run(_empty_table(reached))
    request = {"url": url, "frames": count, "symbols": frames.SYMBOLS, "postgres": reached}
    command = [str(PEER_PYTHON), str(Path(__file__).with_name("cryptofeed_peer.py"))]
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        result = _answer(_start(command, request, folder))
    return float(result["frames"] / result["cpu_s"])


async def _empty_table(reached: dict[str, Any]) -> None:
    import asyncpg

    server = {name: reached[name] for name in ("host", "port", "user")}
    connection = await asyncpg.connect(**server, database=reached["db"])
    await connection.execute("DROP TABLE IF EXISTS trades")
    await connection.execute(_TABLE)
    await connection.close()


def run(*, count: int = 300_000, peer_count: int = 60_000) -> Iterator[Row]:
    """Measure both ways in turn."""
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        wire, peer_wire = Path(folder, "wire"), Path(folder, "peer-wire")
        frames.write_wire(wire, count)
        with peer_wire.open("wb") as file:
            file.write(text_frame(b'{"channel":"subscriptions","events":[]}'))
            file.writelines(map(text_frame, _advanced(peer_count)))
        if not PEER_PYTHON.exists():
            with sending(wire) as url:
                row = alternate({OURS: lambda: _ours(url, count)}).row(
                    "websocket -> stored", "frames/CPU s", Goal(least=120_000)
                )
            yield row
            raise NotRun("cryptofeed has no environment: `make peer` makes one (Python 3.13)")
        with sending(wire) as url, sending(peer_wire) as peer_url, postgres.server() as reached:
            rounds = alternate(
                {
                    OURS: lambda: _ours(url, count),
                    "cryptofeed": lambda: _peers(peer_url, peer_count, reached),
                }
            )
        yield rounds.row(
            "websocket -> stored", "frames/CPU s", Goal(ratio=4), "cryptofeed", postgres.version()
        )
