"""Recorded frames through the whole path: journal, projection, store."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.wiring import stores
from forebay.app.wiring.journaling import open_journal
from forebay.app.wiring.venues import VENUES, check_venue, install, parsers
from forebay.journal import CursorFile, PendingBlock
from forebay.services.checkpoints import BookCheckpoints, Derives
from forebay.services.deliver import CONSUMER, Deliverer
from forebay.sources.recordings import read_recording, require_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.domain.frames import Context
    from forebay.journal import JournalWriter
    from forebay.ports import ReadableStore
    from forebay.sources.recordings import Recorded
    from forebay.telemetry import Observer

GROUP_FRAMES = 4096
"""Frames of one group commit, at most."""
GROUP_BYTES = 16 << 20
"""A group commit with more is full."""
_WALL = (0, 0)
"""Recorded times are wall times already."""


@contextlib.contextmanager
def offline(
    folder: DataFolder, config: Config, clock: Clock, observer: Observer
) -> Iterator[tuple[JournalWriter, Deliverer]]:
    """Do as :func:`offline_store`, without the store."""
    with offline_store(folder, config, clock, observer) as (writer, deliverer, _):
        yield writer, deliverer


@contextlib.contextmanager
def offline_store(
    folder: DataFolder, config: Config, clock: Clock, observer: Observer
) -> Iterator[tuple[JournalWriter, Deliverer, ReadableStore]]:
    """Hold the folder, its journal and its store in this process, with nothing left to deliver.

    Raises :class:`~forebay.errors.Unreachable` while a capture holds the folder.
    """
    with (
        _owned(folder, config),
        contextlib.closing(open_journal(folder, config, clock, observer)) as writer,
        contextlib.closing(stores.open_store(folder, config.store)) as store,
    ):
        cursor = CursorFile(folder.cursor(CONSUMER))
        deliverer = Deliverer(folder.journal, store, parsers(), cursor=cursor, observer=observer)
        deliverer.drain()
        yield writer, deliverer, store
        if isinstance(store, Derives):
            BookCheckpoints(store, parsers()).all()


@contextlib.contextmanager
def _owned(folder: DataFolder, config: Config) -> Iterator[None]:
    with folder.create().owned():
        stores.require_same(folder, config)
        yield


def replay(
    files: Sequence[Path],
    venue: str,
    folder: DataFolder,
    config: Config,
    *,
    clock: Clock,
    observer: Observer,
    partial: bool = False,
    progress: Callable[[Path, int], object] = lambda _path, _bytes: None,
) -> dict[str, Any]:
    """Capture and deliver the frames of ``files``; return the account of them.

    Raises :class:`~forebay.errors.ConfigError`, and nothing is done, if a file has no frame.
    """
    folder.look()
    install(folder, config.venues)
    check_venue(venue)
    for file in files:
        require_frames(file)
    lost: list[dict[str, object]] = []
    with offline(folder, config, clock, observer) as (writer, deliverer):
        deliverer.forget_totals()
        for file in files:
            frames = read_recording(
                file,
                venue,
                clock=clock,
                partial=partial,
                restarts=VENUES[venue].restarts(),
                progress=functools.partial(progress, file),
                lose=lambda loss, file=file: lost.append({"file": str(file), **asdict(loss)}),  # type: ignore[misc]
            )
            start = writer.position
            for drafts in _groups(frames, f"{start.log_id}-{start.seq}"):
                writer.commit(drafts)
        deliverer.drain()
        return account(deliverer) | {"lost": lost}


def account(deliverer: Deliverer) -> dict[str, Any]:
    """Return what became of the frames delivered; the outcomes add up to the frames."""
    total = deliverer.delivered
    gaps, outcomes = deliverer.gap_counts(), total.outcomes
    return {
        "frames": total.frames,
        "yielding": outcomes.get("yielding", 0),
        "control": outcomes.get("control", 0),
        "dead_letters": outcomes.get("dead", 0),
        **{name: getattr(total, name) for name in ("events", "stored", "duplicates", "conflicts")},
        "gaps": gaps["open"] + gaps["permanent"],
        "flagged": total.flagged,
        "unknown": dict(sorted(total.unbuilt.items())),
    }


def _groups(frames: Iterable[Recorded], run: str) -> Iterator[list[PendingBlock]]:
    """Gather frames into drafts of one context and kind, and drafts into groups."""
    encoded: dict[Context, bytes] = {}
    drafts: list[PendingBlock] = []
    gathered = size = 0
    for frame in frames:
        kind = int(frame.kind)
        if (context := encoded.get(frame.context)) is None:
            context = msgspec.structs.replace(frame.context, run=run).encode()
            encoded[frame.context] = context
        if not drafts or (drafts[-1].context, drafts[-1].kind) != (context, kind):
            drafts.append(PendingBlock(kind, context, [], [], _WALL))
        drafts[-1].payloads.append(frame.payload)
        drafts[-1].mono_ns.append(frame.received_ns)
        gathered += 1
        size += len(frame.payload)
        if gathered == GROUP_FRAMES or size > GROUP_BYTES:
            yield drafts
            drafts, gathered, size = [], 0, 0
    if drafts:
        yield drafts
