"""``forebay dlq``: what could never become an event, with its bytes, and what became of it."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from forebay.cli.output import (
    DEFAULT_DATA,
    ConfigOption,
    DataOption,
    JsonOption,
    err,
    out,
    print_json,
)
from forebay.cli.settings import DataFlag, offline_job, reading, whoever
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa

    from forebay.app.dead_letters import LettersWanted

app = typer.Typer(no_args_is_help=True, help="Dead letters: frames and events that cannot succeed.")

LetterState = StrEnum("LetterState", "all open kept replayed discarded")
"""What became of a dead letter."""
_ALONE = ["state", "settled_ts", "settled_by", "settled_reason"]
"""Columns that say nothing where all are open."""
_AT_ONCE = 200
"""Letters whose bytes are in memory together."""
_HINT = "See `forebay dlq list`."


@dataclass(frozen=True, slots=True)
class LetterFilters:
    """Which letters are meant."""

    reason: Annotated[str | None, typer.Option(help="Only with this reason.")] = None
    error: Annotated[str | None, typer.Option(help="Only with this text in the error.")] = None
    venue: Annotated[str | None, typer.Option(help="Only of this venue.")] = None
    since: Annotated[
        str | None, typer.Option(help="Only received at this time or later, ISO 8601, UTC.")
    ] = None
    until: Annotated[str | None, typer.Option(help="Only received before this time.")] = None

    def wanted(self, state: LetterState | None) -> LettersWanted:
        """Return them as a question; without a state it is for those that are not settled."""
        from forebay.app.dead_letters import LettersWanted
        from forebay.times import to_ns

        open_ones = ("open", "kept")
        every = tuple(each.value for each in LetterState)
        states = open_ones if state is None else every if state == "all" else (state.value,)
        since, until = (None if each is None else to_ns(each) for each in (self.since, self.until))
        return LettersWanted(self.reason, self.error, self.venue, since, until, states)

    @property
    def text(self) -> str:
        """What is asked for, as a sentence goes on."""
        said = [("of the reason", self.reason), ("of", self.venue), ("with the error", self.error)]
        return "".join(f" {word} {each}" for word, each in said if each)


@app.command("list")
def list_letters(
    *,
    data: DataOption = DEFAULT_DATA,
    among: LetterFilters,
    state: Annotated[
        LetterState | None, typer.Option(help="Only these; else those that are not settled.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, latest first.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List dead letters that are open, latest first.

    Those that wait here for their topic are "kept". What was replayed or discarded is listed
    with --state.

    Example: forebay dlq list --data DIR --reason not_json
    """
    from forebay.app.dead_letters import listed
    from forebay.cli.sql import Format, more_rows, write

    table = listed(reading(data), among.wanted(state), limit)
    if as_json:
        write(table, Format.json)
        return
    if not table.num_rows:
        out.print(f"No dead letters{among.text} in {data}.")
        return
    count = f"{table.num_rows:,} dead letter{'s' * (table.num_rows > 1)}"
    out.print(f"the latest {count}" if more_rows(table) else f"{count}, latest first")
    if set(table["state"].to_pylist()) == {"open"}:
        table = table.drop_columns(_ALONE)
    write(table, Format.table)


@app.command("show")
def show(
    letter: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")],
    *,
    data: DataOption = DEFAULT_DATA,
    raw: Annotated[bool, typer.Option("--raw", help="Write exactly its bytes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter whole, with its bytes; in JSON, base64 where they are no UTF-8.

    Example: forebay dlq show 3f2a --data DIR --raw > frame.bin
    """
    from forebay.cli.cells import text
    from forebay.cli.sql import records

    table = _one(data, letter)
    (record,) = records(table)
    payload: bytes = table["payload"][0].as_py()
    if raw:
        sys.stdout.buffer.write(payload)
    elif as_json:
        print_json({**record, **payload_words(payload)})
    else:
        for name, value in (record | {"payload": _readable(payload)}).items():
            if value is not None or name not in _ALONE:
                out.print(Text(f"{name:>14}  ", "bold"), end="")
                out.print("" if value is None else text(value))


@app.command("replay")
def replay(
    letters: Annotated[
        list[str] | None, typer.Argument(help="Their ids, or the beginnings; else as filtered.")
    ] = None,
    *,
    among: LetterFilters,
    by: Annotated[str, typer.Option(help="Who says so; the name you are logged in by.")] = "",
    data: DataFlag = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the bytes of open dead letters once more, with today's parser, and store what they are.

    Nothing is stored twice. A letter that is refused again stays open, with an attempt more; exit
    code 1 says that there was one.

    Example: forebay dlq replay --reason unknown_type --data DIR
    """
    from forebay.app.dead_letters import failed_in, whole
    from forebay.app.offline.letters import replay as tell_again
    from forebay.app.wiring.venues import install

    settings, folder, observer = offline_job("replay", config, data)
    folder.existing()
    install(folder, settings.venues)
    ids = _meant(folder.root, letters, among, ("open",))
    done: list[str] = []
    failed: dict[str, str] = {}
    for at in range(0, len(ids), _AT_ONCE):
        some = whole(reading(folder.root), ids[at : at + _AT_ONCE])
        told = asyncio.run(tell_again(folder, settings, some, by or whoever(), observer))
        failed |= told.without
        again = failed_in(reading(folder.root), told.run)
        failed |= {letter: again[letter] for letter in told.letters if letter in again}
        done += [letter for letter in told.letters if letter not in again]
    if as_json:
        print_json({"replayed": done, "failed": failed})
    else:
        for error, ids_of in _by_error(failed).items():
            more = f" and {len(ids_of) - 1:,} more" if len(ids_of) > 1 else ""
            out.print(f"{ids_of[0]}{more}: {error}")
        err.print(f"{len(done):,} replayed, {len(failed):,} as dead as before")
    if failed:
        raise typer.Exit(1)


def _by_error(failed: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the letters of each error, since hundreds may have the same."""
    found: dict[str, list[str]] = {}
    for letter, error in failed.items():
        found.setdefault(error, []).append(letter)
    return found


@app.command("discard")
def discard(
    letters: Annotated[
        list[str] | None, typer.Argument(help="Their ids, or the beginnings; else as filtered.")
    ] = None,
    *,
    reason_given: Annotated[str, typer.Option("--reason", help="Why they are given up.")],
    of_reason: Annotated[
        str | None, typer.Option("--of-reason", help="Only with this reason of their own.")
    ] = None,
    error: Annotated[str | None, typer.Option(help="Only with this text in the error.")] = None,
    venue: Annotated[str | None, typer.Option(help="Only of this venue.")] = None,
    since: Annotated[str | None, typer.Option(help="Only received at this time or later.")] = None,
    until: Annotated[str | None, typer.Option(help="Only received before this time.")] = None,
    by: Annotated[str, typer.Option(help="Who says so; the name you are logged in by.")] = "",
    data: DataFlag = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give up dead letters: they stay on record, with a name and a reason, and are not open.

    Example: forebay dlq discard 3f2a --reason "a test of the venue's" --data DIR
    """
    from forebay.app.dead_letters import give_up_kept, venues_of
    from forebay.app.offline.letters import discard as give_up

    if not reason_given.split():
        raise ConfigError("A letter is discarded for a reason.", hint='Say it with --reason "…".')
    among = LetterFilters(of_reason, error, venue, since, until)
    if not letters and among == LetterFilters():
        raise ConfigError("Nothing says which letters.", hint="Name them, or filter them.")
    settings, folder, observer = offline_job("discard", config, data)
    folder.existing()
    who = " ".join((by or whoever()).split()), " ".join(reason_given.split())
    ids = _meant(folder.root, letters, among, ("open", "kept"))
    stored: dict[str, list[str]] = defaultdict(list)
    for letter, theirs in venues_of(reading(folder.root), ids).items():
        stored[theirs].append(letter)
    if stored:
        asyncio.run(give_up(folder, settings, stored, who, observer))
    give_up_kept(folder, ids, who)
    if as_json:
        print_json({"discarded": ids})
    else:
        err.print(f"{len(ids):,} discarded")


def _one(data: Path, letter: str) -> pa.Table:
    """Return the letter that begins so; raises ConfigError if that is not one."""
    from forebay.app.dead_letters import beginning

    prefix = letter.lower()
    if not set(prefix) <= set("0123456789abcdef-"):
        raise ConfigError(f"{letter!r} is no dead letter's id.", hint=_HINT)
    table = beginning(reading(data), prefix)
    if table.num_rows != 1:
        message = f"{table.num_rows or 'No'} dead letters begin with {letter!r}."
        raise ConfigError(message, hint=_HINT)
    return table


def _meant(
    data: Path, letters: list[str] | None, among: LetterFilters, states: tuple[str, ...]
) -> list[str]:
    """Return the ids of the letters that are named, else of those in ``states`` as filtered."""
    from forebay.app.dead_letters import listed

    if letters:
        if among != LetterFilters():
            message = "Letters are named, or filtered, not both."
            raise ConfigError(message, hint="Leave one out.")
        return [str(_one(data, letter)["letter_id"][0].as_py()) for letter in letters]
    wanted = among.wanted(None)._replace(states=states)
    found: list[str] = listed(reading(data), wanted, None)["letter"].to_pylist()
    return found


def _readable(payload: bytes) -> str:
    """Return bytes as a text; what is no UTF-8 is escaped, and so is its backslash."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload.replace(b"\\", b"\\\\").decode(errors="backslashreplace")


def payload_words(payload: bytes) -> dict[str, str | None]:
    """Return bytes as JSON can hold them, in the words of the journal's export."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload": None, "payload_base64": base64.b64encode(payload).decode()}
