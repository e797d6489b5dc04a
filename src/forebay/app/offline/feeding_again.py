"""A store on a server fed once more with all that the journal has: what it lacks is stored.

Nothing is removed. What is there is recognised by its ids, so this mends a store that lost rows, or
that was restored to an earlier time; what is damaged is taken out of use first. To make one wholly
anew, give it another database.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from forebay.app.offline.rebuild import said
from forebay.app.wiring import stores
from forebay.app.wiring.journaling import open_journal
from forebay.app.wiring.venues import parsers
from forebay.domain.channels import kind_of
from forebay.domain.kinds import KINDS
from forebay.journal import CursorFile, JournalReader
from forebay.ports import SetsAside
from forebay.services.deliver import Deliverer

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.app.wiring.stores import FolderStore
    from forebay.clock import Clock
    from forebay.telemetry import Observer


def feed_again(
    folder: DataFolder,
    config: Config,
    place: FolderStore,
    *,
    clock: Clock,
    observer: Observer,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """Read the whole journal into a store and return the account of what that added.

    Ended early, it is gone on with by the capture, or begun anew by the next try. Raises
    :class:`~forebay.errors.Unreachable` while a capture holds the folder, or if nobody answers.
    """
    with (
        folder.existing().owned(),
        contextlib.closing(open_journal(folder, config, clock, observer)) as writer,
        contextlib.closing(stores.open_store(folder, place.config, place.role)) as store,
    ):
        end, kind = writer.position.seq, stores.kind_of(place.config)
        store.load()  # what it lacks is made
        aside = store.set_aside_damaged() if isinstance(store, SetsAside) else ()
        before = said(store, kind)
        cursor = CursorFile(folder.cursor(place.consumer))
        # What was told once, as a gap or a letter, is not told again.
        deliverer = Deliverer(folder.journal, store, parsers(), cursor=cursor)
        deliverer.read_again()
        while deliverer.step():
            if deliverer.position:
                progress(deliverer.position.seq - 1, end - 1)
        after = said(store, kind)
    with JournalReader(folder.journal) as reader:
        first = reader.position.seq
    more = Counter({hour: -count for hour, count in before.events.items()})
    more.update(after.events)
    added: Counter[str] = Counter()
    for (stream, _), count in more.items():
        added[KINDS[kind_of(stream.channel)].table] += count
    return {
        "frames": deliverer.delivered.frames,
        "stored": dict(added),
        "letters_and_conflicts": len(after.rarities - before.rarities),
        "oldest_frame": first,
        "not_in_journal": [],
        "complete": True,
        "kept": None,
        "set_aside": list(aside),
    }
