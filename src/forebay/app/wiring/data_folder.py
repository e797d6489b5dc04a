"""The data folder: what lies where, in which layout, and who may use it.

Its mark says the layout, and only this one is worked with: an older folder is made anew from its
journal, see :mod:`forebay.app.offline.rebuild`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import msgspec

from forebay.errors import ConfigError, JournalFull, Unreachable
from forebay.journal import OS_DISK
from forebay.journal.disk import write_all
from forebay.services.registry import RegistryMemory
from forebay.stores.kind import StoreConfig, address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from forebay.journal import Disk

LAYOUT = 2
"""2: streams have a market, and rows say which frame told them."""
FILE_NAME = "forebay.toml"
"""The configuration, which may lie in a folder before it is a data folder."""
_MARK = "FOREBAY"
_MAKING = "FOREBAY.making"
_PLUGINS = "plugins.json"
_CONSUMERS = "consumers.json"
_STORES = "stores.json"
_MARK_TEXT = re.compile(r"Forebay data folder, layout ([1-9][0-9]*)\n")
_ELSEWHERE = "Choose another folder with --data, or make it writable."
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_SOCKET_PATH_LIMIT = 100
"""A Unix socket's address holds 107 bytes on Linux, 103 elsewhere."""


class Consumer(NamedTuple):
    """Somebody who reads the journal, with a cursor of its own."""

    name: str
    required: bool = True
    """Whether frames are kept until it is past them. A best-effort consumer may miss some."""


STORE = Consumer("store")


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths inside one data folder."""

    root: Path

    @property
    def journal(self) -> Path:
        """Segments, watermark and lock of the journal."""
        return self.root / "journal"

    def database(self, kind: str) -> Path:
        """Return where a store of a kind is, if it is in a file."""
        return self.root / f"forebay.{kind}"

    def bridge_database(self, kind: str) -> Path:
        """Return where a bridge's store of a kind is, if it is in a file."""
        return self.root / f"bridge.{kind}"

    def databases(self) -> list[str]:
        """Return of which kinds of store a database is there, by name."""
        return sorted(
            path.suffix[1:]
            for path in self.root.glob("forebay.*")
            if path.stem == "forebay" and path.is_file() and path.suffix != ".toml"
        )

    @property
    def parquet(self) -> Path:
        """Closed hours as files."""
        return self.root / "parquet"

    def cursor(self, consumer: str) -> Path:
        """Return where a consumer says how far it has got, for the journal's housekeeping."""
        return self.root / "cursors" / f"{consumer}.cursor"

    @property
    def ledger(self) -> Path:
        """The permanent record of what the journal held."""
        return self.root / "ledger"

    @property
    def letters(self) -> Path:
        """Dead letters that their topic would not take, and how often the bridge has tried."""
        return self.root / "letters"

    @property
    def deliver_socket(self) -> Path:
        """Where deliver answers queries."""
        return self.root / "deliver.sock"

    @property
    def capture_socket(self) -> Path:
        """Where capture answers about itself."""
        return self.root / "capture.sock"

    def socket(self, role: str) -> Path:
        """Return where a process answers."""
        return self.root / f"{role}.sock"

    def sockets(self) -> dict[str, Path]:
        """Return where each process answers, by its role."""
        return {"capture": self.capture_socket, "deliver": self.deliver_socket}

    @property
    def supervisor_socket(self) -> Path:
        """Where the supervisor answers about the whole."""
        return self.root / "run.sock"

    def create(self, disk: Disk = OS_DISK) -> DataFolder:
        """Make the folder and what belongs in it, on stable storage; may be repeated.

        Raises :class:`~forebay.errors.ConfigError` if that is not possible, or if there is
        something in it that is not ours, and :class:`~forebay.errors.JournalFull` if there is
        no space.
        """
        address(self.root)
        with self._explained():
            disk.make_folder(self.root)
            self._require_ours()
            self._make_durably(disk)
            self._require_writable(self.root)
        return self

    def look(self) -> Path:
        """Return where it is, or would be made: the nearest folder that is there. Makes nothing.

        Raises what :meth:`create` would, as far as that can be told without trying.
        """
        with self._explained():
            folders = (self.root, *self.root.absolute().parents)
            there = next(path for path in folders if os.path.lexists(path))
            if not there.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{there} is no folder")
            if there == self.root:
                self._require_ours()
            self._require_writable(there)
            if not os.statvfs(there).f_blocks:
                raise OSError(errno.ENOTSUP, f"{there} stores nothing")
        return there

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise self._full() from error
            message = f"The data folder {self.root} cannot be used: {error.strerror}."
            raise ConfigError(message, hint=_ELSEWHERE) from error

    def _require_ours(self) -> None:
        """Raise if what lies there is a stranger's, or of another layout."""
        names = {entry.name for entry in self.root.iterdir()} - {_MAKING}
        if (self.root / FILE_NAME).is_file():
            names.discard(FILE_NAME)
        if names and _MARK not in names:
            message = f"{self.root} is not empty and not a Forebay data folder: {min(names)!r}."
            raise ConfigError(message, hint="Choose an empty or a new folder with --data.")
        if names:
            self.existing(oldest=0 if names == {_MARK} else LAYOUT)

    def _require_writable(self, folder: Path) -> None:
        if not os.access(folder, os.W_OK | os.X_OK):
            message = f"The data folder {self.root} cannot be written to."
            raise ConfigError(message, hint=_ELSEWHERE)

    def _make_durably(self, disk: Disk) -> None:
        """Make what belongs in the folder, whatever an earlier try left undone.

        The mark comes first and is durable before anything else is made: a power cut must not
        leave a folder that looks like a stranger's. Names are synced even if they are there
        already, because a try that was killed may not have got so far.
        """
        if not self._mark.exists() or self.layout() != LAYOUT:
            self.mark(disk)
        disk.fsync_dir(self.root)
        for folder in (self.journal, self.cursor(STORE.name).parent):
            disk.make_folder(folder)
        with contextlib.suppress(PermissionError):  # a parent that may be passed, and not read
            disk.fsync_dir(self.root.parent)

    def _full(self) -> JournalFull:
        message = f"There is no space left for the data folder {self.root}."
        return JournalFull(message, hint="Free some, or choose another disk with --data.")

    @property
    def marked(self) -> bool:
        """Whether it is a data folder, of whatever layout."""
        return os.path.lexists(self._mark)

    @property
    def _mark(self) -> Path:
        return self.root / _MARK

    def mark(self, disk: Disk = OS_DISK) -> None:
        """Say that the folder has this layout, durably; all of it or nothing is said."""
        self._say(self._mark, f"Forebay data folder, layout {LAYOUT}\n".encode(), disk)

    def _say(self, path: Path, content: bytes, disk: Disk, making: Path | None = None) -> None:
        """Write all of a file or nothing; ``making`` is where, if others write meanwhile."""
        making = making or self.root / _MAKING
        making.unlink(missing_ok=True)
        fd = disk.open(making, create=True)
        try:
            write_all(disk, fd, [content], 0)
            disk.fdatasync(fd)
        finally:
            disk.close(fd)
        disk.rename(making, path)
        disk.fsync_dir(self.root)

    def plugins(self) -> dict[str, str]:
        """Return where venues come from that are not in the tree. Raises ConfigError."""
        found = self._remembered(_PLUGINS, "Name the venues' plugins again with -c.")
        return {str(name): str(plugin) for name, plugin in found.items()}

    def remember_plugins(self, plugins: Mapping[str, str], disk: Disk = OS_DISK) -> None:
        """Keep where venues come from, durably; only for who holds the journal."""
        self._say(self.root / _PLUGINS, json.dumps(plugins).encode(), disk)

    def consumers(self) -> list[Consumer]:
        """Return who reads the journal, always the store first. Raises ConfigError."""
        found = self._remembered(_CONSUMERS, "Start the capture again: it writes the file anew.")
        others = {str(name): bool(required) for name, required in found.items()}
        return [STORE, *(Consumer(*each) for each in others.items() if each[0] != STORE.name)]

    def remember_consumers(self, consumers: Iterable[Consumer], disk: Disk = OS_DISK) -> None:
        """Keep who reads the journal beside the store, durably; only for who holds the folder."""
        others = {name: required for name, required in consumers if name != STORE.name}
        self._say(self.root / _CONSUMERS, json.dumps(others).encode(), disk)

    def stores(self) -> dict[str, StoreConfig]:
        """Return where what is captured is stored, by the role of the process that stores it.

        The first is the one whose answers count; nothing if no capture ever ran. Raises
        ConfigError.
        """
        hint = "Start the capture again: it writes the file anew."
        found = self._remembered(_STORES, hint)
        try:
            return {str(role): msgspec.convert(said, StoreConfig) for role, said in found.items()}
        except msgspec.ValidationError as error:
            message = f"{self.root / _STORES} cannot be read: {error}."
            raise ConfigError(message, hint=hint) from error

    def remember_stores(self, stores: Mapping[str, StoreConfig], disk: Disk = OS_DISK) -> None:
        """Keep where what is captured is stored, durably; only for who holds the folder."""
        self._say(self.root / _STORES, msgspec.json.encode(stores), disk)

    def registry(self, venue: str, market: str) -> RegistryMemory:
        """Return what a venue's market registry knew last. Raises ConfigError."""
        path = self._registry(venue, market)
        hint = "Remove it: what ended while nothing ran is then not known."
        try:
            return msgspec.convert(self._remembered(path.name, hint), RegistryMemory)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{path} cannot be read: {error}.", hint=hint) from error

    def remember_registry(
        self, venue: str, market: str, memory: RegistryMemory, disk: Disk = OS_DISK
    ) -> None:
        """Keep what a venue's market registry knows, durably; only for who holds the journal."""
        path = self._registry(venue, market)
        self._say(path, msgspec.json.encode(memory), disk, path.with_suffix(".making"))

    def _registry(self, venue: str, market: str) -> Path:
        names = "-".join(quote(name, safe="") for name in (venue, market))
        return self.root / f"registry-{names}.json"

    def _remembered(self, name: str, hint: str) -> dict[Any, Any]:
        path = self.root / name
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}.", hint=hint) from error

    def layout(self) -> int:
        """Return the layout that the mark says, known or not; ConfigError if none."""
        try:
            text = self._mark.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError as error:
            hint = "Capture something into it first, for instance with `forebay demo --keep DIR`."
            raise ConfigError(f"{self.root} is not a Forebay data folder.", hint=hint) from error
        except OSError as error:
            message = f"The data folder {self.root} cannot be read: {error.strerror}."
            raise ConfigError(message, hint="Make it readable.") from error
        if not text:
            return 1  # it was not synced then, so a power cut could empty it
        found = _MARK_TEXT.fullmatch(text)
        if found is None:
            message = f"{self.root} is a data folder of a layout that is not known."
            raise ConfigError(message, hint="Upgrade Forebay.")
        return int(found[1])

    def existing(self, *, oldest: int = LAYOUT) -> DataFolder:
        """Return this folder if it is one of this layout, or of one since ``oldest``.

        Raises :class:`~forebay.errors.ConfigError` otherwise.
        """
        layout = self.layout()
        message = f"{self.root} is a data folder of layout {layout}; this Forebay needs {LAYOUT}."
        if layout > LAYOUT:
            raise ConfigError(message, hint="Upgrade Forebay.")
        if layout < oldest:
            rebuild = f"`forebay rebuild --data {self.root}`"
            hint = f"{rebuild} makes the new one from its journal, and keeps the old database."
            raise ConfigError(message, hint=hint)
        return self

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder for one running capture; ends with the process however it ends.

        Raises :class:`~forebay.errors.Unreachable` while another process holds it and
        :class:`~forebay.errors.JournalFull` if there is no space.
        """
        address(self.root)
        with contextlib.ExitStack() as held:
            lock = held.enter_context((self.root / "run.lock").open("a+", encoding="ascii"))
            try:
                # The folder's own lock too: somebody may have removed the file by hand.
                held.callback(os.close, OS_DISK.lock_folder(self.root))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                message = f"{self.root} is in use by the capture with process id {holder}."
                raise Unreachable(message, hint="Stop it, or choose another --data.") from error
            try:
                lock.truncate(0)
                os.write(lock.fileno(), str(os.getpid()).encode())  # no buffer to fail later
            except OSError as error:
                raise self._full() from error
            yield

    def in_use(self) -> bool:
        """Whether a process holds the folder now."""
        try:
            with (self.root / "run.lock").open(encoding="ascii") as lock:
                # Asking for the lock could refuse a capture that starts at this moment, so
                # it is asked for only if the last holder may still be alive.
                os.kill(int(lock.read() or 0), 0)
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # if it lives, it may be another user's
            return True
        except (OSError, ValueError):
            return False
        return False


@contextlib.contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """Return an address for a Unix socket, also where the path is too long for one."""
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
