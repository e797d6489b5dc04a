"""What ``forebay backfill`` says, and what a configuration may want of a downloader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from forebay.cli.backfill import lines_of
from forebay.cli.settings import CaptureFlags, capture_config
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

COMPLETE = {
    "venue": "coinbase",
    "market": "spot",
    "symbol": "BTC-USD",
    "timeframe": "1m",
    "from": "2026-03-02T00:00:00Z",
    "to": "2026-03-03T00:00:00Z",
    "pages": 5,
    "answered": 5,
    "failed": 0,
    "refused": "",
    "problem": "",
    "empty": [],
}


def said(**changed: object) -> list[str]:
    document: dict[str, Any] = {"stored": 1, "dead_letters": 0, "downloads": [COMPLETE | changed]}
    return list(lines_of(document))


def test_what_became_of_each_stream_is_a_line() -> None:
    named = "coinbase BTC-USD 1m, 2026-03-02T00:00:00Z to 2026-03-03T00:00:00Z: "
    stored = "1 new bar stored"
    assert said() == [f"{named}complete, 5 pages asked for", stored]
    assert said(refused="HTTP 404.") == [f"{named}refused: HTTP 404.", stored]
    assert said(answered=4, problem="No page.") == [f"{named}4 of 5 pages: No page.", stored]
    empty = {"from": "a", "to": "b"}
    assert said(empty=[empty, empty])[1] == "  the source has nothing from a to b and 1 more"


VENUE = '[[venues]]\nname = "coinbase"\nsymbols = ["BTC-USD"]\n'


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('venue = "coinbase"\nsymbols = ["A-B"]', "lacks since"),
        ('venue = "coinbase"\nsince = "2026-01-01"', "lacks symbols"),
        (
            'venue = "coinbase"\nsymbols = ["A-B"]\nsince = "2026-01-01"\ntimeframes = ["2m"]',
            "'2m'",
        ),
        ('venue = "coinbsae"\nsymbols = ["A-B"]\nsince = "2026-01-01"', "Did you mean 'coinbase'"),
        ('every = "soon"', "Write a whole number"),
    ],
)
def test_a_downloader_that_cannot_be_is_refused_at_the_start(
    tmp_path: Path, table: str, says: str
) -> None:
    file = tmp_path / "forebay.toml"
    file.write_text(f"{VENUE}[downloader]\n{table}\n")
    with pytest.raises(ConfigError) as caught:
        capture_config(file, CaptureFlags(data=tmp_path))
    assert says in str(caught.value)
