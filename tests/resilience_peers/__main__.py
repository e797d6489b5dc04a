"""``python -m tests.resilience_peers``: how breakers behave, ours beside the installed peers.

Exit 1 if ours is wrong in a column, or if a column has nobody that is wrong in it: with all peers
installed a peer, else one of the naive breakers.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from tests.resilience_peers.breakers import CONTROLS, OURS, PEERS
from tests.resilience_peers.probes import COLUMNS, ask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.resilience_peers.probes import Cell

Answers = dict[str, dict[str, "Cell"]]


def complaints(answers: Mapping[str, Mapping[str, Cell]], others: Iterable[str]) -> list[str]:
    """What the answers do not show: that ours is right, and that being wrong is possible."""
    names = tuple(others)
    wrong = [
        f"{OURS.name} is wrong: {column}: {answers[OURS.name][column].text}"
        for column in COLUMNS
        if answers[OURS.name][column].right is not True
    ]
    unproven = [
        f"nobody is wrong: {column}"
        for column in COLUMNS
        if all(answers[name][column].right is not False for name in names)
    ]
    return wrong + unproven


def table(answers: Mapping[str, Mapping[str, Cell]]) -> str:
    """Lines for a person to read; what is wrong has a ``!``."""
    lines = [("", *COLUMNS)]
    for name, cells in answers.items():
        texts = (cells[column] for column in COLUMNS)
        marks = (f"{cell.text} !" if cell.right is False else cell.text for cell in texts)
        lines.append((name, *marks))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main() -> int:
    """Ask everybody who is here."""
    parser = argparse.ArgumentParser(prog="make probes", description=__doc__)
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    as_json = parser.parse_args().json
    present = [peer for peer in PEERS if peer.version() is not None]
    missing = [peer.distribution for peer in PEERS if peer.version() is None]
    answers: Answers = {}
    for contender in (OURS, *present, *CONTROLS):
        answers[f"{contender.name} {contender.version()}".strip()] = ask(contender)
    others = CONTROLS if missing else present
    wrong = complaints(answers, [f"{each.name} {each.version()}".strip() for each in others])
    if as_json:
        rows = {
            name: {column: {"right": cell.right, "text": cell.text} for column, cell in row.items()}
            for name, row in answers.items()
        }
        print(
            json.dumps({"answers": rows, "not_installed": missing, "complaints": wrong}, indent=1)
        )
    else:
        print(table(answers))
        print("\n".join([*(f"not installed: {name}" for name in missing), *wrong]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
