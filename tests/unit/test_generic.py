"""What is generic names no kind of event, no store and no venue.

Another kind is a file, another store or venue a folder and a line of wiring.
"""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forebay.domain.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "forebay"
OWN_ROOMS = ("domain/kinds/", "lab/")
"""Where kinds are at home; a simulator's truth shares nothing with what it is there to test."""
READS_KINDS = {
    "app/wiring/config_template.py": "the template shows an example",
    "app/reader.py": "a notebook asks for each kind by name",
    "app/statements.py": "of a bar that was told several times one is shown",
    "services/book_bases.py": "an order book is folded from its two kinds",
    "services/book_telling.py": "likewise: how a venue tells its changes",
    "cli/demo.py": "prints a query that a newcomer can type next",
    "cli/settings.py": "the help of a flag shows an example",
    "cli/lab.py": "tells the truth of a simulated market, which is one of trades",
    "app/offline/download_plan.py": "what is downloaded are bars",
    "app/offline/verifying.py": "what is verified are bars",
    "app/processes/samples.py": "metrics of what is verified, and an older one, name bars",
    "cli/backfill.py": "what is downloaded are bars",
    "app/alternatives.py": "what another source may have are bars",
    "app/checked_bars.py": "what calendars let expect are bars",
    "cli/verify.py": "what is verified are bars",
    "ops/catalogue.py": "a metric of the contract counts bars by their older name",
}
"""Files that may name a kind, and why."""
NAME_STORES = {
    "app/wiring/stores.py": "where the kinds of store are",
    "stores/kind.py": "what the configuration says of one, and which is the default",
}
"""Files outside its own folder that may name a store, and why."""
NAME_VENUES = {
    "app/wiring/venues.py": "wiring: the venues that there are",
    "lab/exchanges/__init__.py": "wiring: the simulators that there are",
    "app/wiring/config_template.py": "the example that `forebay init` writes",
    "cli/lab.py": "the example of a command",
    "cli/settings.py": "the example of all other commands",
}
"""Files outside their own folders that name a venue, and why: code that needs one is wiring."""

_ANYWHERE = {"market", "markets"}
"""Also the part of a venue that every stream is of."""
WORDS = sorted({word for kind in KINDS.values() for word in (kind.channel, kind.table)} - _ANYWHERE)
_WORD = re.compile(rf"(?<![a-z])({'|'.join(WORDS)})(?![a-z])")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TEXTS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
"""Since Python 3.12 the text of an f-string is in pieces, and its code is code."""
_IN_TEXT_ALONE = {"bar", "bars", "quote"}
"""Also a progress bar, a quotation mark, and what an instrument is quoted in."""


def words(source: str) -> Iterator[tuple[str, bool]]:
    """Return the names and texts in ``source``, docs left out, and whether each is a text."""
    at_line_start, depth = True, 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            at_line_start = not depth
            continue
        if token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
        is_text = token.type in _TEXTS
        if token.type == tokenize.NAME or (is_text and not at_line_start):
            yield _HUMP.sub("_", token.string).lower(), is_text
        at_line_start = False


def names(source: str) -> Iterator[str]:
    """Return every name of a kind in the code and the texts of ``source``, but not in docs."""
    for word, is_text in words(source):
        for found in _WORD.findall(word):
            if is_text or found not in _IN_TEXT_ALONE:
                yield found


def files_that_name(word: str, rooms: str) -> list[str]:
    """Return the files, but those whose path matches ``rooms``, that name a store or a venue."""
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    return sorted(
        where
        for where, path in paths.items()
        if not re.match(rooms, where)
        and any(word in found.replace("_", "") for found, _ in words(path.read_text()))
    )


def generic_files() -> list[str]:
    """Return the files outside the kinds' own rooms and those of venues that name a kind."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE).as_posix()
        venue = re.fullmatch(r"sources/\w+/\w+\.py", where) and "/websocket/" not in where
        if where.startswith(OWN_ROOMS) or (venue and "/rest/" not in where):
            continue
        if any(names(path.read_text())):
            found.append(where)
    return found


def test_no_generic_file_names_a_kind_but_those_that_say_why() -> None:
    assert sorted(generic_files()) == sorted(READS_KINDS)


def test_no_file_names_a_store_but_wiring() -> None:
    assert files_that_name("duckdb", "stores/duckdb/") == sorted(NAME_STORES)


def test_no_more_files_name_a_venue() -> None:
    found = files_that_name("coinbase", r"sources/coinbase/|lab/exchanges/coinbase/")
    assert found == sorted(NAME_VENUES), "whoever shortens it shortens the list as well"


@pytest.mark.parametrize(
    "code",
    [
        "trades = 1",
        "f(\n    'trades')",
        "f(trade_id)",
        'x = "quotes"',
        "class BookDelta: ...",
        "TRADES = 1",
    ],
)
def test_a_name_of_a_kind_is_found(code: str) -> None:
    assert list(names(code))


@pytest.mark.parametrize("code", ['"""Of trades."""', "# trades", "quoted = 1", "bars = progress"])
def test_what_is_no_name_of_a_kind_is_not_found(code: str) -> None:
    assert not list(names(code))
