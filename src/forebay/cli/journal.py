"""``forebay journal``: look into the journal, check it, and copy it out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.cli.dlq import payload_words
from forebay.cli.output import (
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    out,
    print_encoded,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.journal import Block, FsckReport, Survey

_COUNTS = ("first_seq", "next_seq", "blocks", "frames", "bytes", "holes", "raw_bytes")

app = typer.Typer(no_args_is_help=True, help="The journal: every frame as it came, on disk.")


def _durable(data: Path) -> Path:
    """Return the journal's folder, readable also if nothing wrote to it since a reboot."""
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import SystemClock
    from forebay.journal import ensure_durable

    folder = DataFolder(data).existing().journal
    ensure_durable(folder, SystemClock())
    return folder


@app.command()
def fsck(*, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False) -> None:
    """Check every byte of journal and ledger; exit code 1 if anything is damaged. Changes nothing.

    Example: forebay journal fsck --data DIR
    """
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.journal import fsck as check

    folder = DataFolder(data).existing()
    required: dict[bool, list[Path]] = {True: [], False: []}
    for consumer in folder.consumers():
        required[consumer.required].append(folder.cursor(consumer.name))
    journal = check(folder.journal, cursors=required[True], best_effort=required[False])
    ledger = check(folder.ledger) if folder.ledger.is_dir() else None
    reports = {"journal": journal} | ({"ledger": ledger} if ledger else {})
    ok = all(report.ok for report in reports.values())
    if as_json:
        recorded = dataclasses.asdict(ledger) if ledger else None
        print_json({"ok": ok, **dataclasses.asdict(journal), "ledger": recorded})
    else:
        _print_checks(reports, ok=ok)
    if not ok:
        raise typer.Exit(1)


def _print_checks(reports: dict[str, FsckReport], *, ok: bool) -> None:
    columns = ("", "segments", "blocks", "frames", "bytes")
    rows = [(name, r.segments, r.blocks, r.frames, r.bytes) for name, r in reports.items()]
    print_table("", columns, rows)
    cursors = [
        (cursor.name, "required" if cursor.required else "best effort", cursor.seq, cursor.behind)
        for report in reports.values()
        for cursor in report.cursors
    ]
    print_table("", ("consumer", "", "next frame", "behind"), cursors)
    found = [(name, each.sentence) for name, r in reports.items() for each in r.findings]
    for name, sentence in found:
        out.print(sentence if name == "journal" else f"{name}: {sentence}")
    out.print("no damage found" if ok else f"{len(found)} findings")


@app.command()
def inspect(*, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False) -> None:
    """List the segments: what each holds, and whether it is sealed.

    Example: forebay journal inspect --data DIR
    """
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.journal import inspect as look

    folder = DataFolder(data).existing().journal
    summaries = [_told(segment) for segment in look(folder)]
    if as_json:
        print_json(summaries)
    else:
        columns = list(summaries[0]) if summaries else ["segment"]
        print_table("", columns, [list(summary.values()) for summary in summaries])


def _told(segment: Survey) -> dict[str, Any]:
    """Say ``sealed`` or ``raw``, and how many bytes one byte of the file stands for."""
    told = {name: getattr(segment, name) for name in ("name", "log_id", *_COUNTS)}
    ratio = segment.raw_bytes / segment.bytes if segment.bytes else 1.0
    state = "sealed" if segment.sealed else "raw"
    return {**told, "holes": len(segment.holes), "state": state, "ratio": round(ratio, 2)}


@app.command()
def export(
    *,
    data: DataOption = DEFAULT_DATA,
    start: Annotated[int, typer.Option("--from", min=1, help="First sequence number.")] = 1,
    end: Annotated[int | None, typer.Option("--to", help="Sequence number to stop before.")] = None,
) -> None:
    """Write frames as NDJSON to stdout; `forebay replay` reads them back.

    Example: forebay journal export --data DIR | gzip > frames.ndjson.gz
    """
    from forebay.journal import iter_blocks

    for block in iter_blocks(_durable(data)):
        if end is not None and block.first_seq >= end:
            return
        for seq, line in _lines(block):
            if seq >= start and (end is None or seq < end):
                print_encoded(line)


@app.command()
def tail(
    *,
    data: DataOption = DEFAULT_DATA,
    frames: Annotated[int, typer.Option("-n", min=1, help="How many frames.")] = 10,
) -> None:
    """Write the last frames as NDJSON.

    Example: forebay journal tail -n 3 --data DIR
    """
    from collections import deque

    from forebay.journal import Position, inspect, iter_blocks

    folder = _durable(data)
    summaries = inspect(folder)
    if not summaries:
        return
    last = summaries[-1]
    first = summaries[-2] if last.frames < frames and len(summaries) > 1 else last
    kept: deque[str] = deque(maxlen=frames)
    for block in iter_blocks(folder, Position(first.log_id, first.first_seq)):
        kept.extend(line for _, line in _lines(block))
    print_encoded("".join(kept))


def _lines(block: Block) -> Iterator[tuple[int, str]]:
    """Return each frame of ``block`` with its sequence number as a line of the export."""
    import msgspec

    from forebay.domain.frames import LOSS_KIND, Context
    from forebay.sources.recordings import ExportedFrame

    lost = block.kind == LOSS_KIND
    nowhere = Context(venue="", source="file", purpose="recording", collector="journal", epoch="")
    context = msgspec.Raw((nowhere if lost else Context.decode(block.context)).encode())
    for index, payload in enumerate(block.payloads):
        frame = ExportedFrame(
            log_id=block.log_id,
            seq=block.first_seq + index,
            kind=block.kind,
            received_ns=int(block.received_ns[index]),
            context=context,
            **payload_words(payload),
        )
        yield frame.seq, msgspec.json.encode(frame).decode() + "\n"
