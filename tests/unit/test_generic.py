"""What is generic names no kind of event: a seventh kind is a file, and touches nothing else."""

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
    "app/config.py": "the template shows an example",
    "app/reading.py": "a notebook asks for each kind by name",
    "services/books.py": "an order book is folded from its two kinds",
    "cli/demo.py": "prints a query that a newcomer can type next",
    "cli/settings.py": "the help of a flag shows an example",
    "cli/lab.py": "tells the truth of a simulated market, which is one of trades",
    "ops/catalogue.py": "a metric of the contract counts bars by their older name",
}
"""Files that may name a kind, and why."""

WORDS = sorted({word for kind in KINDS.values() for word in (kind.channel, kind.table)})
_WORD = re.compile(rf"(?<![a-z])({'|'.join(WORDS)})(?![a-z])")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_IN_TEXT_ALONE = {"bar", "bars", "quote"}
"""Also a progress bar, a quotation mark, and what an instrument is quoted in."""


def names(source: str) -> Iterator[str]:
    """Return every name of a kind in the code and the texts of ``source``, but not in docs."""
    at_line_start = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            at_line_start = True
            continue
        is_text = token.type == tokenize.STRING
        if token.type == tokenize.NAME or (is_text and not at_line_start):
            for found in _WORD.findall(_HUMP.sub("_", token.string).lower()):
                if is_text or found not in _IN_TEXT_ALONE:
                    yield found
        at_line_start = False


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


@pytest.mark.parametrize(
    "code", ["trades = 1", "f(trade_id)", 'x = "quotes"', "class BookDelta: ...", "TRADES = 1"]
)
def test_a_name_of_a_kind_is_found(code: str) -> None:
    assert list(names(code))


@pytest.mark.parametrize("code", ['"""Of trades."""', "# trades", "quoted = 1", "bars = progress"])
def test_what_is_no_name_of_a_kind_is_not_found(code: str) -> None:
    assert not list(names(code))
