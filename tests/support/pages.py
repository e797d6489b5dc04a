"""Reads a page of the documentation: its sections, tables, blocks and links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CELL = re.compile(r"(?<!\\)\|")

Table = list[list[str]]


def page(name: str) -> str:
    """The text of a page by its path in the documentation, without the ending."""
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """What stands below a heading of any level, up to the next one."""
    _, below = re.split(rf"^#+ {re.escape(heading)}\n", page, maxsplit=1, flags=re.MULTILINE)
    return re.split(r"^#+ ", below, maxsplit=1, flags=re.MULTILINE)[0]


def tables(text: str) -> Iterator[Table]:
    """Every table, its head first, cells stripped of spaces."""
    for lines in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        rows = [
            [cell.strip().replace("\\|", "|") for cell in CELL.split(line)[1:-1]]
            for line in lines.splitlines()
        ]
        assert set("".join(rows[1])) <= {"-"}, rows[0]
        yield [rows[0], *rows[2:]]


def table(text: str, *head: str) -> Table:
    """The rows of the one table with this head."""
    (found,) = [each for each in tables(text) if tuple(each[0]) == head]
    assert len(found) > 1
    return found[1:]


def blocks(page: str, name: str) -> list[str]:
    """Every fenced block of this name."""
    return re.findall(rf"^```{name}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def block(page: str, name: str) -> str:
    """The one fenced block of this name."""
    (found,) = blocks(page, name)
    return found


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)


def ticked(text: str) -> list[str]:
    """What stands between backquotes."""
    return re.findall(r"`([^`]+)`", text)


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(path: Path) -> list[tuple[Path, str]]:
    """Where the links of a page lead that leave no host: a file, and an anchor or nothing."""
    text = prose(path.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    found = []
    for inline, reference in targets:
        target, _, anchor = (inline or reference).partition("#")
        if "://" not in target:
            found.append(((path.parent / target).resolve() if target else path, anchor))
    return found
