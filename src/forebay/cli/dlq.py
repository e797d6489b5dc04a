"""``forebay dlq``: what could never become an event, with its bytes."""

from __future__ import annotations

import base64
import sys
from typing import Annotated

import typer
from rich.text import Text

from forebay.cli.output import (
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    out,
    print_json,
)
from forebay.cli.settings import reading
from forebay.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Dead letters: frames and events that cannot succeed.")

_LISTED = (
    "letter_id::VARCHAR AS letter, received_ts, venue, source, reason, error, "
    "octet_length(payload) AS bytes, seq, item, attempts"
)


@app.command("list")
def list_letters(
    *,
    data: DataOption = DEFAULT_DATA,
    reason: Annotated[str | None, typer.Option(help="Only with this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, latest first.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, latest first.

    Example: forebay dlq list --data DIR --reason not_json
    """
    from forebay.cli.sql import Format, more_rows, write
    from forebay.text import literal

    where = f"WHERE reason = {literal(reason)}" if reason else ""
    query = f"SELECT {_LISTED} FROM dead_letters {where} ORDER BY received_ts DESC"  # noqa: S608
    table = reading(data).sql(query, limit=limit)
    if as_json:
        write(table, Format.json)
    elif not table.num_rows:
        of = f" of the reason {reason}" if reason else ""
        out.print(f"No dead letters{of} in {data}.")
    else:
        count = f"{table.num_rows:,} dead letter{'s' * (table.num_rows > 1)}"
        out.print(f"the latest {count}" if more_rows(table) else f"{count}, latest first")
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

    prefix = letter.lower()
    if not set(prefix) <= set("0123456789abcdef-"):
        raise ConfigError(f"{letter!r} is no dead letter's id.", hint="See `forebay dlq list`.")
    query = f"SELECT * FROM dead_letters WHERE letter_id::VARCHAR LIKE '{prefix}%' LIMIT 2"  # noqa: S608
    table = reading(data).sql(query)
    if table.num_rows != 1:
        message = f"{table.num_rows or 'No'} dead letters begin with {letter!r}."
        raise ConfigError(message, hint="See `forebay dlq list`.")
    (record,) = records(table)
    payload: bytes = table["payload"][0].as_py()
    if raw:
        sys.stdout.buffer.write(payload)
    elif as_json:
        print_json({**record, **payload_words(payload)})
    else:
        for name, value in (record | {"payload": _readable(payload)}).items():
            out.print(Text(f"{name:>12}  ", "bold"), end="")
            out.print("" if value is None else text(value))


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
