"""The one place that opens stores: for delivery, offline, and for whoever reads.

A kind of store is brought in when one is needed: its driver is heavy, and most processes have none.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from forebay.app.wiring.data_folder import STORE
from forebay.errors import ConfigError, Unreachable
from forebay.stores.kind import DEFAULT, MirrorConfig, StoreConfig, StoreKind
from forebay.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from forebay.app.wiring.complaints import Complaints
    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.ports import ReadableStore

DELIVER, MIRROR, BRIDGE = "deliver", "mirror-", "bridge"
"""The role of the process of the first store, how those of further ones begin, whose name follows,
and that of a bridge."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
KINDS = {DEFAULT: "forebay.stores.duckdb:STORE", "clickhouse": "forebay.stores.clickhouse:STORE"}
"""Where the kinds of this tree are; all but the default one need the extra of their name."""


def name_of(config: StoreConfig) -> str:
    """Return what a store is called."""
    return config.name or config.kind


def kind_of(config: StoreConfig) -> StoreKind:
    """Return the kind of store that is configured. Raises :class:`~forebay.errors.ConfigError`."""
    return _load(config.plugin or KINDS[check_kind(config.kind)])


def check_kind(name: str) -> str:
    """Return ``name``; raises :class:`~forebay.errors.ConfigError` if there is no such kind."""
    if name not in KINDS:
        hint = did_you_mean(name, KINDS, f"There is: {', '.join(KINDS)}.")
        raise ConfigError(f"There is no store of the kind {name!r}.", hint=hint)
    return name


def _load(plugin: str) -> StoreKind:
    return load_plugin(plugin, "store", StoreKind, "STORE")


def check_stores(config: Config, complaints: Complaints) -> None:
    """Note what is wrong with the tables; no kind is brought in for it."""
    seen: dict[str, str] = {}
    tables = [("store", config.store)]
    tables += [(f"mirrors[{number}]", each) for number, each in enumerate(config.mirrors)]
    for key, said in tables:
        with complaints.noted():
            _check(said, key, seen)


def _check(said: StoreConfig, key: str, seen: dict[str, str]) -> None:
    if not said.plugin:
        check_kind(said.kind)
    if not _NAME.fullmatch(name_of(said)):
        hint = "Write letters, digits, - and _."
        raise ConfigError(f"The name {name_of(said)!r} of {key} cannot be.", hint=hint)
    if "@" in said.url.partition("?")[0] or "?" in said.url:
        hint = "Put user and password into its credentials_file, and the rest into options."
        raise ConfigError(f"The url of {key} has more than an address.", hint=hint)
    for one, told in ((name_of(said), "called"), (" ".join(_place(said)), "in")):
        if f"{told} {one}" in seen:
            message = f"The tables {seen[f'{told} {one}']} and {key} are both {told} {one}."
            raise ConfigError(message, hint="Give each its own name, and its own url or database.")
        seen[f"{told} {one}"] = key


class FolderStore(NamedTuple):
    """A store of what is captured in a data folder."""

    role: str
    """Of the process that stores it, and answers whoever asks."""
    config: StoreConfig

    @property
    def name(self) -> str:
        """What it is called."""
        return name_of(self.config)

    @property
    def bridged(self) -> bool:
        """Whether a bridge feeds it, here or elsewhere."""
        return self.role.partition("-")[0] == BRIDGE

    @property
    def consumer(self) -> str:
        """Who has the cursor in the folder; in a store of its own each is called alike."""
        return STORE.name if self.role == DELIVER else self.role

    def path(self, folder: DataFolder, kind: StoreKind) -> Path:
        """Return where its database is, if that is a file."""
        if self.role == BRIDGE:
            return folder.bridge_database(kind.name)
        return folder.database(kind.name)


def stores_of(config: Config) -> list[FolderStore]:
    """Return the stores that are configured; the first is the one whose answers count."""
    bridged = [FolderStore(BRIDGE, _plain(config.bridge.store))] if config.bridge.transport else []
    if bridged and not config.venues:  # nothing is captured here
        return bridged
    mirrors = (FolderStore(_role(each), _plain(each)) for each in config.mirrors)
    return [FolderStore(DELIVER, _plain(config.store)), *mirrors, *bridged]


def fed(config: Config) -> list[MirrorConfig]:
    """Return the mirrors that are fed here."""
    return [each for each in config.mirrors if not each.bridged]


def _role(said: MirrorConfig) -> str:
    return f"{BRIDGE}-{name_of(said)}" if said.bridged else MIRROR + name_of(said)


def _plain(said: StoreConfig) -> StoreConfig:
    """Return what any process needs to open it, wherever it works."""
    fields = {name: getattr(said, name) for name in StoreConfig.__struct_fields__}
    if said.credentials_file:
        fields["credentials_file"] = str(Path(said.credentials_file).absolute())
    return StoreConfig(**fields)


def remember(folder: DataFolder, config: Config) -> None:
    """Have the folder remember its stores, for who reads it without a configuration."""
    wanted = dict(stores_of(config))
    if folder.stores() != wanted:
        folder.remember_stores(wanted)


def in_folder(folder: DataFolder, name: str = "") -> list[FolderStore]:
    """Return the stores of a folder, or the one that is called so.

    Of one that no capture ran in it is the database that is there, or would be. Raises
    :class:`~forebay.errors.ConfigError` if none is called so, and
    :class:`~forebay.errors.Unreachable` if what is there is not known.
    """
    found = [FolderStore(*each) for each in folder.stores().items()]
    found = found or [FolderStore(DELIVER, StoreConfig(kind=_kind_there(folder)))]
    return [chosen(found, name, str(folder.root))] if name else found


def chosen(found: Sequence[FolderStore], name: str, whose: str) -> FolderStore:
    """Return the store that is called so, the first if none is named. Raises ConfigError."""
    for each in found:
        if name in ("", each.name):
            return each
    names = [each.name for each in found]
    hint = did_you_mean(name, names, f"There is: {', '.join(names)}.")
    raise ConfigError(f"{whose} has no store {name!r}.", hint=hint)


def _kind_there(folder: DataFolder) -> str:
    there = folder.databases()
    known = [name for name in there if name in KINDS]
    if there and not known:
        message = f"The database of the kind {there[0]!r} in {folder.root} is not known here."
        raise Unreachable(message, hint="Ask it while the capture that it belongs to runs.")
    return known[0] if known else DEFAULT


def require_same(folder: DataFolder, config: Config) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if ``config`` has another store than the folder.

    Else a job without its capture would store elsewhere what it finds, and say that it is stored.
    A folder that remembers none remembers this one.
    """
    if not folder.stores():
        remember(folder, config)
    for known in in_folder(folder)[:1]:
        wanted = stores_of(config)[0].config
        if _place(known.config) != _place(wanted):
            message = f"{folder.root} is stored in {known.name}, and this configuration has "
            message += f"{name_of(wanted)} for it."
            hint = "Name the configuration of its capture with -c, or run that once with this one."
            raise ConfigError(message, hint=hint)


def _place(said: StoreConfig) -> tuple[str, ...]:
    return (said.plugin or said.kind, said.url, said.database)


def open_store(folder: DataFolder, config: StoreConfig, role: str = DELIVER) -> ReadableStore:
    """Open or create the store of a folder, which only one process may do at a time.

    Raises :class:`~forebay.errors.Unreachable` while another process holds it,
    :class:`~forebay.errors.Corrupt` if it is damaged, and :class:`~forebay.errors.ConfigError` if
    it was written by a Forebay of other tables. One on a server is not asked yet.
    """
    kind = kind_of(config)
    return kind.open(config, FolderStore(role, config).path(folder, kind))


def query_store(
    folder: DataFolder,
    place: FolderStore,
    sql: str,
    *,
    timeout_s: float,
    memory_limit_mb: int | None = None,
    limit: int | None = None,
) -> pa.Table:
    """Return the rows of a statement on a store of a folder that no process holds, or a server.

    Raises :class:`~forebay.errors.Unreachable` if there is none or it is held, otherwise as
    :meth:`forebay.ports.Reader.query`.
    """
    kind = kind_of(place.config)
    path = place.path(folder, kind)
    with contextlib.closing(kind.read(place.config, path, memory_limit_mb)) as reader:
        return reader.query(sql, timeout_s=timeout_s, limit=limit)


Part = TypeVar("Part")


def load_plugin(plugin: str, of: str, kind: type[Part], example: str) -> Part:
    """Return what ``package.module:ATTRIBUTE`` names: a ``kind``, for the part ``of``.

    Raises :class:`~forebay.errors.ConfigError` in one sentence that says what to do; ``example``
    is the usual name of the attribute.
    """
    told = f"The plugin {plugin!r} of the {of}"
    module, _, attribute = plugin.partition(":")
    written = f"Write package.module:{example}."
    if not (module and attribute):
        raise ConfigError(f"{told} names no object.", hint=written)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:
        message = f"{told} cannot be imported: {type(error).__name__}: {error}."
        hint = "Install its package beside forebay, or name its folder in PYTHONPATH."
        raise ConfigError(message, hint=hint) from error
    if not isinstance(found, kind):
        raise ConfigError(f"{told} is no {kind.__module__}.{kind.__name__}.", hint=written)
    return found
