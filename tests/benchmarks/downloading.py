"""Ways to have a pair's bars in DuckDB, each a process of its own that is measured alone.

``python -m tests.benchmarks.downloading '{"way": ..., "url": ..., "folder": ..., "bars": N}'``
prints one line of JSON. The plain ways are what a script does: ``requests``, ``json``, and an
insert a page, as an Arrow table or row by row. They keep no page, sync nothing of their own and
check nothing.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa
import requests

from forebay.app.offline.download import download
from forebay.app.offline.download_plan import WantedBars
from forebay.app.wiring.config import Config, VenueConfig
from forebay.app.wiring.data_folder import DataFolder
from forebay.lab.exchanges.massive.messages import KEY
from forebay.lab.truth.histories import BEGIN_MS, MINUTE_MS
from forebay.telemetry import ignore
from forebay.times import to_text
from tests.benchmarks.harness import cpu_seconds, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYMBOL = "EUR-USD"
_NAMES = ("t", "o", "h", "l", "c", "v")
_TABLE = (
    "CREATE TABLE bars (t BIGINT PRIMARY KEY, o DOUBLE, h DOUBLE, l DOUBLE, c DOUBLE, v DOUBLE)"
)


def ours(url: str, folder: Path, bars: int) -> int:
    """Page, journal, parser, store and coverage."""
    key = folder / "massive.toml"
    key.write_text(f'key = "{KEY}"\n', encoding="utf-8")
    venue = VenueConfig(
        name="massive",
        symbols=(SYMBOL,),
        market="forex",
        rest_url=url,
        credentials_file=str(key),
    )
    data = DataFolder(folder / "data")
    config = Config(data=str(data.root), venues=(venue,))
    since, until = (to_text(ms * 1_000_000) for ms in (BEGIN_MS, BEGIN_MS + bars * MINUTE_MS))
    wanted = WantedBars("massive", (SYMBOL,), ("1m",), since, until, "forex", at_once=1)
    return asyncio.run(download(data, config, wanted, ignore)).stored


def pages(url: str, bars: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each page, as the venue's tutorials do."""
    begin, end = (
        datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")
        for ms in (BEGIN_MS, BEGIN_MS + bars * MINUTE_MS)
    )
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {KEY}"
        following = f"/v2/aggs/ticker/C:EURUSD/range/1/minute/{begin}/{end}?limit=50000"
        while following:
            document = session.get(url + following, timeout=60).json()
            yield document.get("results", [])
            told = urlsplit(document.get("next_url", ""))
            following = f"{told.path}?{told.query}" if told.path else ""


def by_arrow(url: str, folder: Path, bars: int) -> int:
    """Insert each page as one table."""
    with duckdb.connect(folder / "plain.duckdb") as connection:
        connection.execute(_TABLE)
        stored = 0
        for rows in pages(url, bars):
            connection.register("page", pa.Table.from_pylist(rows))
            connection.execute("INSERT INTO bars SELECT t, o, h, l, c, v FROM page")
            stored += len(rows)
    return stored


def by_rows(url: str, folder: Path, bars: int) -> int:
    """Insert each page with ``executemany``."""
    with duckdb.connect(folder / "plain.duckdb") as connection:
        connection.execute(_TABLE)
        stored = 0
        for rows in pages(url, bars):
            values = [[row[name] for name in _NAMES] for row in rows]
            connection.executemany("INSERT INTO bars VALUES (?, ?, ?, ?, ?, ?)", values)
            stored += len(rows)
    return stored


def fetched(url: str, folder: Path, bars: int) -> int:
    """Parse each page and drop it: what the simulator gives at most."""
    del folder
    return sum(len(rows) for rows in pages(url, bars))


WAYS: dict[str, Callable[[str, Path, int], int]] = {
    "ours": ours,
    "arrow": by_arrow,
    "rows": by_rows,
    "fetched": fetched,
}


def main() -> None:
    """Go one way, and say how it went."""
    request = json.loads(sys.argv[1])
    found: dict[str, Any] = {}

    def work() -> None:
        found["bars"] = WAYS[request["way"]](
            request["url"], Path(request["folder"]), request["bars"]
        )

    began = cpu_seconds()
    found["seconds"] = seconds(work)
    found["cpu_s"] = cpu_seconds() - began
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
