"""Configuration: ``forebay.toml``, the environment and flags, checked once at start.

Precedence: flag, environment, file, default; :func:`file_for` says which file. Every key has an
environment twin: ``FOREBAY_`` and its path in capitals, parts joined by two underscores, for
instance ``FOREBAY_JOURNAL__LINGER_MS``; lists and tables are JSON.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct, structs
from msgspec import inspect as types

from forebay.app.wiring.bridges import BridgeConfig, check_bridge
from forebay.app.wiring.calendar_config import CalendarConfig
from forebay.app.wiring.complaints import Complaints
from forebay.app.wiring.config_layers import from_environment, from_file, with_servers
from forebay.app.wiring.data_folder import FILE_NAME, DataFolder
from forebay.app.wiring.history_config import AlternativeConfig, FillConfig, Positive
from forebay.app.wiring.stores import check_stores
from forebay.app.wiring.transports import check_transports
from forebay.app.wiring.venue_config import AtLeastOne
from forebay.app.wiring.venue_config import (
    VenueConfig as VenueConfig,  # noqa: PLC0414 - a part of the whole, which is here
)
from forebay.errors import ConfigError
from forebay.stores.kind import MirrorConfig, StoreConfig
from forebay.text import nearest
from forebay.times import SPAN, SPAN_HINT
from forebay.transports.kind import TransportConfig

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_SECRETS = ("http.token",)
STARS = "***"
"""What is shown of a secret."""


class JournalConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The durable log of raw frames."""

    linger_ms: Annotated[float, Meta(gt=0, le=1000)] = 5.0
    """How long the first frame of a group waits for others; twice as long at rest."""
    segment_mb: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Size of one file of the journal."""
    max_pending_mb: AtLeastOne = 32
    """Sources pause while more than this is received and not yet captured."""
    retain: Annotated[str, Meta(pattern=SPAN)] = "7d"
    """How long frames are kept after receipt, once stored and recorded; "0": not at all."""
    retain_gb: Positive | None = None
    """Gigabytes (10⁹ bytes) above which the oldest frames go earlier; left out: no cap."""


class QueryConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Queries answered while a capture runs."""

    timeout_s: Positive = 60.0
    """How long a query may take."""


class DownloaderConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bars of a venue's history, downloaded beside a capture: what is there is not asked for."""

    venue: str = ""
    """The venue; empty: nothing is downloaded."""
    symbols: tuple[str, ...] = ()
    """What to download of it."""
    timeframes: tuple[str, ...] = ("1m",)
    """Time frames of the bars."""
    since: str = ""
    """When the first bar opens, ISO 8601."""
    every: Annotated[str, Meta(pattern=SPAN)] = "1h"
    """How often to look for bars that are new."""
    verify_every: Annotated[str, Meta(pattern=SPAN)] = "24h"
    """How often all is compared with the source, besides days just downloaded; 0: nothing is."""
    market: str = ""
    """The part of the venue; left out: its first."""
    at_once: Annotated[int, Meta(ge=1, le=32)] = 2
    """Pages that are asked for together."""


class HttpConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Health, metrics and administration of this capture."""

    enabled: bool = True
    """Whether they are served."""
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """The port; 0: any that is free, and `forebay status` says which."""
    token: str = ""
    """What a caller of administration must know; without one it is off. Better in a file."""
    token_file: str = ""
    """A file that holds the token."""


def token_of(http: HttpConfig) -> str:
    """Return the token of administration, empty if it is off. Raises ConfigError."""
    if http.token or not http.token_file:
        return http.token
    try:
        token = Path(http.token_file).read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        message = f"The file of http.token_file, {http.token_file}, cannot be read: {why}."
        raise ConfigError(message, hint="Make it, readable by this user alone.") from error
    if not token:
        message = f"The file of http.token_file, {http.token_file}, is empty."
        raise ConfigError(message, hint="Write a long random word into it.")
    return token


class BreakerLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be changed of a circuit breaker; what is left out is its preset's number."""

    failure_threshold: AtLeastOne | None = None
    """Failures in a row that open it."""
    recovery_timeout_s: Positive | None = None
    """How long it stays open before a call may probe."""
    success_threshold: AtLeastOne | None = None
    """Probes that close it."""
    timeout_s: Positive | None = None
    """How long a call may take; what is written has none."""


class ResilienceConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a part counts as down, and what brings it back."""

    auto_recovery: bool = True
    """Without it a breaker that opened waits for an operator; the journal keeps everything."""
    check_interval_s: Positive = 30.0
    """Seconds between two probes of a breaker that nobody calls."""
    recovery_hold_s: Annotated[float, Meta(ge=0, le=86_400)] = 10.0
    """How long the system must be better before it is said to be."""
    critical: tuple[str, ...] = ()
    """Services that are critical beside those that always are."""
    store: BreakerLimits = BreakerLimits()
    """The breaker of an embedded store."""
    clickhouse: BreakerLimits = BreakerLimits()
    """The breakers of queries that a store on a server is asked."""
    clickhouse_bridge: BreakerLimits = BreakerLimits()
    """The breakers of what is written to a store on a server."""
    rest: BreakerLimits = BreakerLimits()
    """The breakers of the venues' REST."""
    websocket: BreakerLimits = BreakerLimits()
    """The breakers of the venues' websockets."""
    transport: BreakerLimits = BreakerLimits()
    """The breakers of the transports."""


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be configured; `forebay init` writes each field's line below it."""

    data: Annotated[str, Meta(min_length=1)] = "data"
    """Folder of journal, database and sockets; left out: that of this file if it has data."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What goes to stderr."""
    collector: Annotated[str, Meta(min_length=1)] = "collector-1"
    """Name of this collector, kept with every frame."""
    venues: tuple[VenueConfig, ...] = ()
    calendars: tuple[CalendarConfig, ...] = ()
    alternatives: tuple[AlternativeConfig, ...] = ()
    transports: tuple[TransportConfig, ...] = ()
    journal: JournalConfig = JournalConfig()
    store: StoreConfig = StoreConfig()
    mirrors: tuple[MirrorConfig, ...] = ()
    bridge: BridgeConfig = BridgeConfig()
    query: QueryConfig = QueryConfig()
    fill: FillConfig = FillConfig()
    downloader: DownloaderConfig = DownloaderConfig()
    http: HttpConfig = HttpConfig()
    resilience: ResilienceConfig = ResilienceConfig()

    def encode(self) -> bytes:
        """Return one line of JSON for a child process."""
        return msgspec.json.encode(self.for_children())

    def for_children(self) -> Config:
        """Return the same without the token, which only the supervisor needs."""
        return msgspec.structs.replace(self, http=msgspec.structs.replace(self.http, token=""))

    @classmethod
    def decode(cls, line: bytes) -> Config:
        """Read what :meth:`encode` wrote."""
        return msgspec.json.decode(line, type=cls)


LISTS: dict[str, type[Struct]] = {
    "venues": VenueConfig,
    "calendars": CalendarConfig,
    "alternatives": AlternativeConfig,
    "transports": TransportConfig,
    "mirrors": MirrorConfig,
}
"""Tables that may be repeated."""


def file_for(given: Path | None, *folders: Path | None) -> Path | None:
    """Return the file that counts: the one given, else the first ``forebay.toml`` of a folder."""
    if given is not None:
        return given
    files = (folder / FILE_NAME for folder in folders if folder is not None)
    # One that is there and cannot be read is an error, and no reason to go by the next.
    return next((file for file in files if os.path.lexists(file)), None)


def load(
    file: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> tuple[Config, dict[str, str]]:
    """Return the configuration and, by key, which layer its value came from.

    Flags that are None were not given. Raises :class:`~forebay.errors.ConfigError`: for each
    thing that is wrong, one sentence that says what to do.
    """
    complaints = Complaints()
    config, origins = gathered(file, flags, complaints, environment)
    complaints.tell()
    return config, origins


def gathered(
    file: Path | None,
    flags: Mapping[str, Any],
    complaints: Complaints,
    environment: Mapping[str, str] | None = None,
) -> tuple[Config, dict[str, str]]:
    """Return what :func:`load` does, with the default for whatever is complained of."""
    environ = os.environ if environment is None else environment
    layers: dict[str, dict[str, Any]] = {"the folder of the file": {}, str(file): {}}
    with complaints.noted():
        layers[str(file)] = from_file(file)
    if file is not None and DataFolder(file.parent).marked:
        layers["the folder of the file"] = {"data": str(file.parent)}
    layers["the environment"] = from_environment(environ, complaints)
    with_servers(environ, layers)
    layers["the command line"] = {key: value for key, value in flags.items() if value is not None}
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, layer in layers.items():
        _merge(merged, layer)
        origins |= {key: name for key, _ in _leaves(layer)}
    right = _Checker(complaints, origins).table(Config, merged, "")
    config = msgspec.convert(right, Config, strict=False)
    check_stores(config, complaints)
    check_transports(config.transports, complaints)
    check_bridge(config, complaints)
    if config.calendars or any(venue.calendar for venue in config.venues):
        from forebay.app.wiring.calendars import check  # noqa: PLC0415 - only who names some

        check(config, complaints)
    return config, {key: origins.get(key, "default") for key, _ in leaves(config)}


def leaves(config: Config) -> Iterator[tuple[str, Any]]:
    """Return every key with its value; a secret is shown as stars."""
    for key, value in all_leaves(config):
        yield key, STARS if key in _SECRETS and value else value


def all_leaves(config: Config) -> Iterator[tuple[str, Any]]:
    """Return every key with its value, secrets included: never to be shown."""
    return _leaves(msgspec.to_builtins(config))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict):
            below = into.setdefault(key, {})
            if isinstance(below, dict):
                _merge(below, value)
                continue
        into[key] = value


_HINTS = {"journal.retain": SPAN_HINT, "downloader.every": SPAN_HINT}
STAND_INS: dict[str, object] = {
    "name": "",
    "symbols": ["?"],
    "weekly": ["Mon 00:00-01:00"],
    "sources": ["?", "?"],
}
"""What passes for a key that must be there and is wrong or missing, while others are looked at."""


class _Checker(NamedTuple):
    """Looks at each key by itself, so that all that is wrong is said at once."""

    complaints: Complaints
    origins: Mapping[str, str]

    def table(
        self, struct: type[Struct], tree: Mapping[str, Any], path: str
    ) -> dict[str, Any] | None:
        """Return what is right, with what passes for a key that must be there; else None."""
        fields = {field.name: field for field in structs.fields(struct)}
        found: dict[str, Any] = {}
        for name, value in tree.items():
            key = f"{path}.{name}".lstrip(".")
            if name not in fields:
                self._complain(f"There is no key {key!r}", key, _meant(name, fields, path))
            elif (right := self.value(fields[name].type, value, key)) is not None:
                found[name] = right
        misspelt = {nearest(name, fields) for name in tree.keys() - fields}
        for name, field in fields.items():
            if field.required and name not in found:
                if name not in tree and name not in misspelt:
                    key = f"{path}.{name}".lstrip(".")
                    self._complain(f"The key {key!r} is missing", key, "Add it.")
                if name not in STAND_INS:
                    return None
                found[name] = STAND_INS[name]
        return found

    def value(self, kind: Any, value: object, key: str) -> Any:  # noqa: ANN401 - of any type
        """Return what is right of a value; None for nothing."""
        told = types.type_info(kind)
        for either in told.types if isinstance(told, types.UnionType) else (told,):
            if isinstance(either, types.StructType) and isinstance(value, dict):
                return self.table(either.cls, value, key)
        inner = told.item_type if isinstance(told, types.VarTupleType) else None
        if isinstance(inner, types.StructType) and isinstance(value, list):
            below = (self.value(inner.cls, each, f"{key}[{n}]") for n, each in enumerate(value))
            return [each for each in below if each is not None]
        if isinstance(inner, types.StructType) and isinstance(value, dict):
            self._complain(f"[{key}] is one table", key, f"Write [[{key}]]: there may be several.")
            return None
        try:
            msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError as error:
            what, _, inside = str(error).partition(" - at `$")
            hint = _HINTS.get(key, "Correct it; `forebay init` writes an example.")
            key += inside.rstrip("`")
            self._complain(f"The value of {key!r}", key, hint, f" is wrong: {what}")
            return None
        return value

    def _complain(self, subject: str, key: str, hint: str, wrong: str = "") -> None:
        """Note what is wrong, and in which layer."""
        plain = key.partition("[")[0]
        layers = (
            layer for known, layer in self.origins.items() if f"{known}.".startswith(f"{plain}.")
        )
        message = f"{subject} ({next(layers, 'configuration')}){wrong}."
        self.complaints.errors.append(ConfigError(message, hint=hint))


def _meant(name: str, known: Collection[str], path: str) -> str:
    """Say what a key that does not exist may have been meant to be."""
    if near := nearest(name, known):
        return f"Did you mean {near!r}?"
    elsewhere = [key for key, _ in leaves(Config()) if key.rpartition(".")[2] == name]
    if elsewhere and not path:
        table = elsewhere[0].rpartition(".")[0]
        return f"Did you mean {elsewhere[0]!r}? It belongs in the table [{table}]."
    return "`forebay init` writes every known key."
