"""Dead letters repeated or given up, by a capture that runs or without."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import msgspec

from forebay.app.control_records import RetoldFrame, SettledLetters
from forebay.app.offline.gaps import delivered
from forebay.app.processes.local_socket import ask
from forebay.clock import SystemClock
from forebay.domain.frames import LETTERS, Context, FrameKind, LettersSettled
from forebay.domain.letters import REFUSED, UNREADABLE
from forebay.errors import ConfigError, Corrupt, ForebayError, Unreachable
from forebay.journal import JournalReader, Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.telemetry import Observer

_REQUEST_BYTES = 4 << 20
"""Frames that are repeated in one request; a larger one goes alone."""
_KINDS = {"binary": FrameKind.BINARY, "compressed": FrameKind.COMPRESSED}
_NO_FRAME = {UNREADABLE, "unknown_control"}


class Letter(NamedTuple):
    """What of a dead letter is needed to tell its frame again."""

    letter: str
    venue: str
    source: str
    epoch: str
    log_id: str
    seq: int
    received_ns: int
    reason: str
    payload: bytes


@dataclass(slots=True)
class Replayed:
    """What became of letters that were to be replayed."""

    run: str
    letters: list[str] = field(default_factory=list)
    """Those whose frames were repeated."""
    without: dict[str, str] = field(default_factory=dict)
    """Those whose frame is not to be had, with the reason."""


async def replay(
    folder: DataFolder, config: Config, letters: Iterable[Letter], by: str, observer: Observer
) -> Replayed:
    """Have the frames of letters captured and delivered once more, as they were received.

    Their events have the ids that they would have had; a letter that comes again has the same id
    too, and is left open. Raises :class:`~forebay.errors.Transient` if they were captured and do
    not count yet.
    """
    done = Replayed(LETTERS + uuid4().hex)
    frames: dict[tuple[str, int], RetoldFrame] = {}
    venues: dict[str, list[str]] = defaultdict(list)
    for letter in letters:
        where = _where(letter)
        try:
            if where not in frames:
                found = _frame(folder.journal, letter, where)
                frames[where] = _again(found, where, done.run, config)
        except ForebayError as error:
            done.without[letter.letter] = error.message
            continue
        done.letters.append(letter.letter)
        venues[letter.venue].append(letter.letter)
    told = [
        (venue, LettersSettled(tuple(theirs), "replayed", by, run=done.run))
        for venue, theirs in venues.items()
    ]
    if told:
        await _told(folder, config, list(frames.values()), told, observer)
    return done


async def discard(
    folder: DataFolder,
    config: Config,
    letters: Mapping[str, Sequence[str]],
    who: tuple[str, str],
    observer: Observer,
) -> None:
    """Give up letters, by venue; they stay on record, with who did it and why.

    Raises as :func:`replay`.
    """
    told = [
        (venue, LettersSettled(tuple(theirs), "discarded", *who))
        for venue, theirs in letters.items()
    ]
    await _told(folder, config, [], told, observer)


def _where(letter: Letter) -> tuple[str, int]:
    """Return where in a journal the frame of a letter is; a refused row says it itself."""
    if letter.reason == REFUSED:
        with contextlib.suppress(msgspec.DecodeError, KeyError):
            row = msgspec.json.decode(letter.payload, type=dict[str, Any])
            return str(row["log_id"]), int(row["seq"])
    return letter.log_id, letter.seq


def _frame(journal: Path, letter: Letter, where: tuple[str, int]) -> RetoldFrame:
    """Return the frame of a letter from the journal, else as the letter has it.

    Raises :class:`~forebay.errors.ConfigError` if that does not say enough.
    """
    if letter.reason in _NO_FRAME:
        message = f"It is no frame of a venue ({letter.reason}), so there is nothing to read anew."
        raise ConfigError(message, hint="Discard it.")
    found = _in_journal(journal, *where)
    if found is not None:
        return found
    if letter.source != "ws" or letter.reason == REFUSED:
        message = "Its frame is not in this journal any more, and the letter does not say enough."
        raise ConfigError(message, hint="`forebay backfill` asks the venue's history once more.")
    context = Context(
        venue=letter.venue,
        source="ws",
        purpose="recording",
        collector="",
        epoch=letter.epoch,
    )
    kind = int(_KINDS.get(letter.reason, FrameKind.TEXT))
    return RetoldFrame(context, kind, letter.received_ns, letter.payload)


def _in_journal(journal: Path, log_id: str, seq: int) -> RetoldFrame | None:
    try:
        with JournalReader(journal, start=Position(log_id, seq)) as reader:
            blocks = reader.read(max_bytes=1)
    except (Corrupt, ValueError):  # of another journal, or what is there is damaged
        return None
    for block in blocks:
        at = seq - block.first_seq
        if 0 <= at < len(block.payloads):
            context = Context.decode(block.context)
            received_ns = int(block.received_ns[at])
            return RetoldFrame(context, block.kind, received_ns, bytes(block.payloads[at]))
    return None


def _again(frame: RetoldFrame, where: tuple[str, int], run: str, config: Config) -> RetoldFrame:
    """Return a frame under the run that repeats it: nothing of a connection follows from it."""
    context = frame.context
    context = msgspec.structs.replace(
        context,
        run=run,
        first=context.first or where,
        purpose="history" if context.purpose == "history" else "recording",
        collector=context.collector or config.collector,
        outage=None,
    )
    return msgspec.structs.replace(frame, context=context)


async def _told(
    folder: DataFolder,
    config: Config,
    frames: list[RetoldFrame],
    told: list[tuple[str, LettersSettled]],
    observer: Observer,
) -> None:
    now_ns = SystemClock().wall_ns()
    settled = [SettledLetters(venue, control, now_ns) for venue, control in told]
    try:
        seq = 0
        for some in _portions(frames):
            seq = await _asked(folder, some, [])
        seq = await _asked(folder, [], settled)
    except Unreachable:
        await asyncio.to_thread(_offline, folder, config, frames, settled, observer)
    else:
        await delivered(folder, seq)


def _portions(frames: list[RetoldFrame]) -> Iterable[list[RetoldFrame]]:
    some: list[RetoldFrame] = []
    size = 0
    for frame in frames:
        if some and size + len(frame.payload) > _REQUEST_BYTES:
            yield some
            some, size = [], 0
        some.append(frame)
        size += len(frame.payload)
    if some:
        yield some


async def _asked(
    folder: DataFolder, frames: list[RetoldFrame], settled: list[SettledLetters]
) -> int:
    request = {
        "op": "letters",
        "frames": msgspec.to_builtins(frames),
        "settled": msgspec.to_builtins(settled),
    }
    answer, _ = await asyncio.to_thread(ask, folder.capture_socket, request)
    seq: int = answer["seq"]
    return seq


def _offline(
    folder: DataFolder,
    config: Config,
    frames: list[RetoldFrame],
    settled: list[SettledLetters],
    observer: Observer,
) -> None:
    from forebay.app.offline.replay import offline  # noqa: PLC0415 - capture needs no store

    with offline(folder, config, SystemClock(), observer) as (writer, deliverer):
        for frame in frames:
            writer.commit([frame.block()])
        writer.commit([told.block(config.collector) for told in settled])
        deliverer.drain()
