"""What is wrong with the events of a stream, as sets: found twice, an event counts once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from forebay.domain.digest import HOUR_NS, MODULUS, Digest
from forebay.domain.kinds import KINDS
from forebay.services.audit.report import MAX_EXAMPLES, Problem, iso

if TYPE_CHECKING:
    import pyarrow as pa

    from forebay.domain.coverage import StreamKey

Ids = dict[str, int | None]
"""Event ids, and the number that each event has in its stream, if it has one."""


class Unlike(NamedTuple):
    """An hour that differs from the ledger, and of which the frames are gone."""

    hour: int
    """Since the Unix epoch."""
    stored: Digest
    ledger: Digest
    lacking: Ids
    """Events that are not stored though coverage owes them to this hour, or to one beside it."""


@dataclass(slots=True)
class Found:
    """What is wrong with the events of one stream."""

    missing: Ids = field(default_factory=dict)
    doubled: Ids = field(default_factory=dict)
    mutated: Ids = field(default_factory=dict)
    spurious: Ids = field(default_factory=dict)
    unseen: Ids = field(default_factory=dict)
    """Stored events of which the journal does not have the frames any more; nothing is wrong."""
    unproved: int = 0
    """Events of hours that are partly lost, and partly in a ledger without frames."""
    again: int = 0
    """Rows whose event is stored already."""
    unlike: list[Unlike] = field(default_factory=list)
    how: dict[str, str] = field(default_factory=dict)
    """Of some mutated events, what differs."""

    def double(self, event_id: str, number: int | None, rows: int) -> None:
        """Note that an event has so many rows too many."""
        self.doubled[event_id] = number
        self.again += rows

    def mutate(self, event_id: str, number: int | None, how: str) -> None:
        """Note that an event is not what it should be."""
        self.mutated[event_id] = number
        if len(self.how) < MAX_EXAMPLES:
            self.how.setdefault(event_id, how)

    def settle(self) -> None:
        """Take out what is missing because it is there, but different."""
        for event_id in self.mutated.keys() & self.missing.keys():
            del self.missing[event_id]


def examples(ids: Ids) -> list[str]:
    """Return what the first few are called: by number, otherwise by id."""
    ordered = sorted((number or 0, event_id) for event_id, number in ids.items())
    return [_called(event_id, ids[event_id]) for _, event_id in ordered[:MAX_EXAMPLES]]


def _called(event_id: str, number: int | None) -> str:
    return event_id if number is None else str(number)


def problems_of(key: StreamKey, found: Found) -> list[Problem]:
    """Say what is wrong with one stream, a sentence a kind."""
    name, problems = key.name, []

    def say(kind: str, ids: Ids, text: str, count: int | None = None) -> None:
        if ids:
            count = len(ids) if count is None else count
            text = f"{name}: {kind} {count}, {text}"
            problems.append(Problem(kind, name, count, examples(ids), text))

    say("missing", found.missing, "to be stored and not there.")
    say("doubled", found.doubled, "rows with an event id that is stored already.", found.again)
    say("mutated", found.mutated, "stored with another content.")
    if found.mutated:
        told = sorted((found.mutated[each] or 0, each, how) for each, how in found.how.items())
        problems[-1].examples[:] = [
            f"{_called(each, found.mutated[each])}: {how}" for _, each, how in told
        ]
    say("spurious", found.spurious, "stored and never received.")
    return problems + [_unlike(name, each) for each in found.unlike]


def _unlike(name: str, each: Unlike) -> Problem:
    """Say what can be said of an hour without its frames."""
    stored, ledger = each.stored, each.ledger
    what = "other ids" if stored.ids != ledger.ids else "the same ids with other content"
    which = "so which ones cannot be said any more"
    if each.lacking:
        which = f"but coverage tells of {len(each.lacking)} that are not stored"
    text = (
        f"{name}: the hour from {iso(each.hour * HOUR_NS)} has {stored.count} events stored and "
        f"{ledger.count} in the ledger, {what} (ids {stored.ids:032x} and {ledger.ids:032x}, rows "
        f"{stored.rows:032x} and {ledger.rows:032x}); its frames are gone, {which}."
    )
    count = max(1, abs(stored.count - ledger.count))
    return Problem("unlike_ledger", name, count, examples(each.lacking), text)


def difference(channel: str, stored: str, right: str) -> str:
    """Say in which columns two canonical rows of a kind of event differ."""
    names = ("event_id", *KINDS[channel].content)
    ours, theirs = stored.split("|"), right.split("|")
    if not len(ours) == len(theirs) == len(names):
        return f"{stored} should be {right}"
    return ", ".join(
        f"{name} is {mine} and should be {other}"
        for name, mine, other in zip(names, ours, theirs, strict=True)
        if mine != other
    )


# ----------------------------------------------------------------- digests of audited rows


def digest_of(event_id: str, canonical: str) -> Digest:
    """Return the digest of one event."""
    hashed = hashlib.md5(canonical.encode(), usedforsecurity=False).digest()
    return Digest(1, int(event_id.replace("-", ""), 16), int.from_bytes(hashed, "little"))


def less(whole: Digest, part: Digest) -> Digest:
    """Return the digest of what is in ``whole`` and not in ``part``, which is in it."""
    ids, rows = (whole.ids - part.ids) % MODULUS, (whole.rows - part.rows) % MODULUS
    return Digest(whole.count - part.count, ids, rows)


def digests_by(rows: pa.Table, bucket_ns: int) -> dict[int, Digest]:
    """Return digests of the first row of each event, by so many nanoseconds of ``event_ts``."""
    found: dict[int, Digest] = {}
    seen: set[str] = set()
    columns = (rows[name].to_pylist() for name in ("event_id", "canonical", "event_ns"))
    for event_id, canonical, event_ns in zip(*columns, strict=True):
        if event_id not in seen:
            seen.add(event_id)
            bucket = event_ns // bucket_ns
            found[bucket] = found.get(bucket, Digest()) + digest_of(event_id, canonical)
    return found
