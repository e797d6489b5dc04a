"""Letters of a bridge, and how often it has tried: both outlive the process.

What cannot be told to its topic, because it is too large, because the topic is gone or because
the transport is away, is kept in a folder until it can: so the lane that it came from goes on.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import msgspec
import pyarrow as pa

from forebay.domain.messages import Head, LettersTold, Mark, Message, Step
from forebay.errors import Corrupt, ForebayError, Permanent, Transient
from forebay.journal import OS_DISK, StateFile, new_id
from forebay.journal.disk import translated
from forebay.services.lanes import DEAD
from forebay.telemetry import LettersKept, LettersSent, Observer, ignore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.journal import Disk
    from forebay.ports import Transport

RETRY_S = 60.0
"""How often what is kept is tried again."""
MOST = 10_000
MOST_BYTES = 256 << 20
_SUFFIX = ".letter"
_LOG = "log"


class Attempts:
    """How often each of some steps has failed, on stable storage before it is told.

    That something is away, or takes too long, is no failure of the step.
    """

    def __init__(self, file: StateFile, most: int = 4096) -> None:
        """Beyond ``most`` steps, those that were counted first are forgotten."""
        self._file = file
        self._most = most
        raw = file.load()
        self._counts: dict[str, int] = msgspec.msgpack.decode(raw, type=dict) if raw else {}

    def of(self, key: str) -> int:
        """Return how often a step has failed."""
        return self._counts.get(key, 0)

    def failed(self, key: str, error: ForebayError) -> int:
        """Count a failure, unless it may pass by itself; return how many there were.

        Raises :class:`~forebay.errors.Transient` if that cannot be written.
        """
        if isinstance(error, Transient):
            return self.of(key)
        counts = {name: count for name, count in self._counts.items() if name != key}
        counts[key] = self.of(key) + 1
        self._store(dict([*counts.items()][-self._most :]))
        return self.of(key)

    def forget(self, *keys: str) -> None:
        """Steps are done; raises as :meth:`failed`."""
        if not self._counts.keys().isdisjoint(keys):
            self._store({key: count for key, count in self._counts.items() if key not in keys})

    def _store(self, counts: dict[str, int]) -> None:
        self._file.store(msgspec.msgpack.encode(counts))
        self._counts = counts


class GivenUp(msgspec.Struct, frozen=True):
    """That a letter is not to be told any more."""

    by: str
    reason: str
    when_ns: int


class KeptLetter(msgspec.Struct, frozen=True):
    """A letter that could not be told to its topic."""

    topic: str
    """Without the ending of dead letters."""
    row: bytes
    """One row of ``DEAD_LETTERS``, an Arrow stream."""
    why: str
    kept_ns: int
    given_up: GivenUp | None = None

    @property
    def rows(self) -> pa.Table:
        """The row as a table."""
        with pa.ipc.open_stream(pa.py_buffer(self.row)) as stream:
            return stream.read_all()


class _File(NamedTuple):
    name: str
    size: int


class LetterSpool:
    """Letters in a folder, a file each by its id: whole and on stable storage, or not there.

    For one writer; whoever else looks sees whole letters.
    """

    def __init__(
        self, folder: Path, disk: Disk = OS_DISK, most: int = MOST, most_bytes: int = MOST_BYTES
    ) -> None:
        """The folder is made with the first letter."""
        self._folder = folder
        self._disk = disk
        self._most = most
        self._most_bytes = most_bytes
        self._sizes = dict(self._files())

    def __len__(self) -> int:
        return len(self._sizes)

    def log_id(self) -> str:
        """Return the name under which this folder's letters are told, the same for ever."""
        file = StateFile(self._folder / _LOG, self._disk)
        raw = file.load()
        if raw is None:
            raw = new_id().encode()
            file.store(raw)
        return raw.decode()

    def letters(self) -> Iterator[tuple[str, KeptLetter]]:
        """Return what is kept with its id, oldest first; what was removed meanwhile is left out.

        Raises :class:`~forebay.errors.Corrupt` for a letter that is damaged.
        """
        found = []
        for name, _ in self._files():
            raw = StateFile(self._path(name), self._disk).load()
            if raw is not None:
                found.append((name, _decoded(name, raw)))
        return iter(sorted(found, key=lambda each: (each[1].kept_ns, each[0])))

    def keep(self, letter: str, kept: KeptLetter) -> None:
        """Have a letter on stable storage; of one that is there already nothing changes.

        Raises :class:`~forebay.errors.Transient` if there is no room, or it cannot be written.
        """
        if letter in self._sizes:
            return
        size = sum(self._sizes.values()) + len(kept.row)
        if len(self._sizes) >= self._most or size > self._most_bytes:
            message = f"{len(self._sizes)} letters are kept in {self._folder}, and no more may be."
            hint = "See `forebay dlq list --state kept`: have their topics take them, or discard."
            raise Transient(message, hint=hint)
        self._write(letter, kept)

    def give_up(self, letter: str, given_up: GivenUp) -> None:
        """Tell a letter no more, and keep it on record."""
        kept = dict(self.letters())[letter]
        self._write(letter, msgspec.structs.replace(kept, given_up=given_up))

    def remove(self, letter: str) -> None:
        """Forget a letter that was told; raises :class:`~forebay.errors.Transient`."""
        with translated(f"remove the letter {letter}"):
            with contextlib.suppress(FileNotFoundError):
                self._disk.unlink(self._path(letter))
            self._disk.fsync_dir(self._folder)
        self._sizes.pop(letter, None)

    def _write(self, letter: str, kept: KeptLetter) -> None:
        raw = msgspec.msgpack.encode(kept)
        StateFile(self._path(letter), self._disk).store(raw)
        self._sizes[letter] = len(raw)

    def _path(self, letter: str) -> Path:
        return self._folder / f"{letter}{_SUFFIX}"

    def _files(self) -> Iterator[_File]:
        with translated(f"read {self._folder}"):
            try:
                names = self._disk.listdir(self._folder)
            except FileNotFoundError:
                return
            for name in sorted(names):
                if name.endswith(_SUFFIX) and not name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        fd = self._disk.open(self._folder / name)
                        yield _File(name.removesuffix(_SUFFIX), self._disk.size(fd))
                        self._disk.close(fd)


def _decoded(name: str, raw: bytes) -> KeptLetter:
    try:
        return msgspec.msgpack.decode(raw, type=KeptLetter)
    except msgspec.DecodeError as error:
        message = f"The letter {name} cannot be read: {error}."
        raise Corrupt(message, hint="Move it away.") from error


class LetterBox:
    """Tells letters to the topic beside their own, or keeps them until it can. Blocking."""

    def __init__(
        self,
        transport: Transport,
        spool: LetterSpool,
        *,
        clock: Clock,
        observer: Observer = ignore,
    ) -> None:
        self._transport = transport
        self._spool = spool
        self._clock = clock
        self._observe = observer
        self._tried_ns: int | None = None

    @property
    def kept(self) -> int:
        """How many letters are in the folder."""
        return len(self._spool)

    def put(self, topic: str, letters: pa.Table) -> None:
        """Return once every letter is in the topic, acknowledged, or on stable storage here.

        Raises :class:`~forebay.errors.Transient` if one is neither: what it is of must not be
        passed over.
        """
        topic = topic.removesuffix(DEAD)
        try:
            self._tell(topic, letters)
        except Permanent:
            self._one_by_one(topic, letters)
        except ForebayError as error:
            self._keep(topic, letters, error)

    def _one_by_one(self, topic: str, letters: pa.Table) -> None:
        for at in range(len(letters)):
            letter = letters.slice(at, 1)
            try:
                self._tell(topic, letter)
            except Permanent as error:
                self._keep(topic, letter, error)
            except ForebayError as error:
                self._keep(topic, letters.slice(at), error)
                return

    def deliver(self) -> int:
        """Tell what is kept if its turn has come; return how many letters were told.

        One that was told when this process was killed is told once more, under the same id.
        """
        now_ns = self._clock.monotonic_ns()
        waits = self._tried_ns is not None and now_ns - self._tried_ns < RETRY_S * 1e9
        if not self.kept or waits:
            return 0
        self._tried_ns = now_ns
        sent = 0
        for name, kept in self._spool.letters():
            if kept.given_up is not None:
                continue
            try:
                self._tell(kept.topic, kept.rows)
            except Permanent:
                continue
            except ForebayError:
                break
            self._spool.remove(name)
            sent += 1
        if sent:
            self._observe(LettersSent(sent))
        return sent

    def _tell(self, topic: str, letters: pa.Table) -> None:
        """Tell letters as a journal of their own: nothing of another one is behind them."""
        log_id = self._spool.log_id()
        place = letters.schema.get_field_index("log_id")
        ours = pa.array([log_id] * len(letters), pa.string())
        rows = letters.set_column(place, letters.schema.field(place), ours).combine_chunks()
        step = Step(log_id, 1, 2)
        told = Message(Head(step, 0, LettersTold(topic), repair=True), rows)
        mark = Message(Head(step, 1, Mark(1, {}, {}), repair=True))
        self._transport.publish(self._transport.lanes(topic + DEAD)[0], [told, mark])

    def _keep(self, topic: str, letters: pa.Table, error: ForebayError) -> None:
        for at in range(len(letters)):
            row = letters.slice(at, 1)
            (letter,) = row["letter_id"].to_pylist()
            stream = pa.BufferOutputStream()
            with pa.ipc.new_stream(stream, row.schema) as writer:
                writer.write_table(row)
            raw = stream.getvalue().to_pybytes()
            kept = KeptLetter(topic, raw, error.message, self._clock.wall_ns())
            self._spool.keep(str(UUID(str(letter))), kept)
        self._observe(LettersKept(len(letters), topic, error.message))
