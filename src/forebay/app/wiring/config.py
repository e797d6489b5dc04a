"""Configuration: ``forebay.toml``, the environment and flags, checked once at start.

Precedence: flag, environment, file, default; :func:`file_for` says which file. Every key has an
environment twin: ``FOREBAY_`` and its path in capitals, parts joined by two underscores, for
instance ``FOREBAY_JOURNAL__LINGER_MS``; lists and tables are JSON.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from forebay.app.wiring.complaints import Complaints
from forebay.app.wiring.config_layers import from_environment, from_file
from forebay.app.wiring.data_folder import FILE_NAME, DataFolder
from forebay.app.wiring.stores import DEFAULT, check_kind
from forebay.errors import ConfigError
from forebay.text import nearest
from forebay.times import SPAN, SPAN_HINT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_SECRETS = ("http.token",)
STARS = "***"
"""What is shown of a secret."""

Positive = Annotated[float, Meta(gt=0, le=1e9)]
AtLeastOne = Annotated[int, Meta(ge=1)]


class VenueConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to capture; repeat the table for more venues."""

    name: str
    """The venue, as `forebay symbols --venue` knows it."""
    symbols: Annotated[tuple[str, ...], Meta(min_length=1)]
    """What to capture of it; `forebay symbols` lists what there is."""
    channels: tuple[str, ...] = ()
    """Kinds of event, or "all"; left out: the venue's own choice."""
    market: Annotated[str, Meta(min_length=1)] = "spot"
    """The part of the venue."""
    depth: AtLeastOne | None = None
    """Levels of an order book a side, where the venue leaves the choice."""
    ws_url: str = ""
    """A websocket address other than the venue's public one."""
    rest_url: str = ""
    """A REST address other than the venue's public one."""
    credentials_file: str = ""
    """A TOML file of secrets, one KEY = "…" a line."""
    stale_after_s: Positive | None = None
    """A connection that is silent for longer is replaced; left out: the venue's own."""
    reconnect_base_s: Positive = 0.5
    """The first wait between two tries to connect; full jitter, at most 30 s."""
    symbols_per_connection: AtLeastOne | None = None
    """How many symbols one connection carries; left out: the venue's own."""
    plugin: str = ""
    """Where a venue of your own comes from: package.module:VENUE."""


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


class StoreConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where events rest."""

    kind: str = DEFAULT
    """The database."""
    plugin: str = ""
    """A kind of your own instead: package.module:STORE."""
    memory_limit_mb: Annotated[int, Meta(ge=64)] = 1024
    """Memory that the database may use."""
    parquet: bool = True
    """Whether closed hours are also kept as Parquet files."""


class QueryConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Queries answered while a capture runs."""

    timeout_s: Positive = 60.0
    """How long a query may take."""


class FillConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Filling gaps from the venues' history."""

    enabled: bool = True
    """Whether gaps are filled without being asked."""
    poll_s: Positive = 1.0
    """Seconds between two looks for open gaps."""


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


class BreakerLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be changed of a circuit breaker; what is left out is its preset's number."""

    failure_threshold: AtLeastOne | None = None
    """Failures in a row that open it."""
    recovery_timeout_s: Positive | None = None
    """How long it stays open before a call may probe."""
    success_threshold: AtLeastOne | None = None
    """Probes that close it."""
    timeout_s: Positive | None = None
    """How long a call may take; the store has none."""


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
    """The breaker of the store."""
    rest: BreakerLimits = BreakerLimits()
    """The breakers of the venues' REST."""
    websocket: BreakerLimits = BreakerLimits()
    """The breakers of the venues' websockets."""


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be configured; `forebay init` writes each field's line below it."""

    data: Annotated[str, Meta(min_length=1)] = "data"
    """Folder of journal, database and sockets; left out: that of this file if it has data."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What goes to stderr."""
    collector: Annotated[str, Meta(min_length=1)] = "collector-1"
    """Name of this collector, kept with every frame."""
    venues: tuple[VenueConfig, ...] = ()
    journal: JournalConfig = JournalConfig()
    store: StoreConfig = StoreConfig()
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
    layers["the command line"] = {key: value for key, value in flags.items() if value is not None}
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, layer in layers.items():
        _merge(merged, layer)
        origins |= {key: name for key, _ in _leaves(layer)}
    config = _converted(merged, origins, complaints)
    if not config.store.plugin:
        with complaints.noted():
            check_kind(config.store.kind)
    return config, {key: origins.get(key, "default") for key, _ in leaves(config)}


def _converted(
    merged: dict[str, Any], origins: Mapping[str, str], complaints: Complaints
) -> Config:
    """Return the configuration; what is complained of is left out, and the rest looked at."""
    while True:
        try:
            return msgspec.convert(merged, Config, strict=False)
        except msgspec.ValidationError as error:
            told, key = _explained(error, origins)
            complaints.errors.append(told)
            if not _left_out(merged, key):
                return Config()


def _left_out(tree: Any, key: str) -> bool:  # noqa: ANN401 - what a TOML file can hold
    """Take ``key``, such as ``venues[0].depth``, out of ``tree``; say whether that was possible.

    A key that must be there, misspelt perhaps, gets a value that passes instead.
    """
    parts = [part or int(index) for part, index in _PART.findall(_LAST_INDEX.sub("", key))]
    must_be = nearest(str(parts[-1]), STAND_INS)
    try:
        for part in parts[:-1]:
            tree = tree[part]
        missing = tree.pop(parts[-1], None) is None and not must_be
    except (LookupError, TypeError, AttributeError):
        return False
    if must_be and parts[0] == "venues":
        tree.setdefault(must_be, STAND_INS[must_be])
    return not missing


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


_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$(.*)`)?")
_MISSING = re.compile(r"Object missing required field `(.*?)`(?: - at `\$(.*)`)?")
_INDEX = re.compile(r"\[(?:\d+|\.\.\.)\]")
_WRONG = re.compile(r"(.*) - at `\$(.*)`")
_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_LAST_INDEX = re.compile(r"(\[\d+\])+$")
_HINTS = {"journal.retain": SPAN_HINT, "downloader.every": SPAN_HINT}
STAND_INS: dict[str, object] = {"name": "", "symbols": ["?"]}
"""What passes for a key of a venue that is wrong or missing, while others are looked at."""


def _explained(
    error: msgspec.ValidationError, origins: Mapping[str, str]
) -> tuple[ConfigError, str]:
    """Turn the decoder's complaint into one sentence, and say of which key it is."""
    text = str(error)
    if found := _UNKNOWN.fullmatch(text):
        name, path = found[1], found[2] or ""
        key = f"{path}.{name}".lstrip(".")
        message = f"There is no key {key!r} ({_origin(key, origins)})."
        return ConfigError(message, hint=_meant(name, path)), key
    if found := _MISSING.fullmatch(text):
        key = f"{found[2] or ''}.{found[1]}".lstrip(".")
        message = f"The key {key!r} is missing ({_origin(key, origins)})."
        return ConfigError(message, hint="Add it."), key
    found = _WRONG.fullmatch(text)
    what, key = (found[1], found[2].lstrip(".")) if found else (text, "")
    message = f"The value of {key!r} ({_origin(key, origins)}) is wrong: {what}."
    hint = _HINTS.get(key, "Correct it; `forebay init` writes an example.")
    return ConfigError(message, hint=hint), key


def _meant(name: str, path: str) -> str:
    """Say what a key that does not exist may have been meant to be."""
    if near := nearest(name, _known_keys(path)):
        return f"Did you mean {near!r}?"
    elsewhere = [key for key, _ in leaves(Config()) if key.rpartition(".")[2] == name]
    if elsewhere and not path:
        table = elsewhere[0].rpartition(".")[0]
        return f"Did you mean {elsewhere[0]!r}? It belongs in the table [{table}]."
    return "`forebay init` writes every known key."


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """Return the layer that ``key``, or the table it is in, came from."""
    key = _INDEX.sub("", key)
    while key:
        for known, layer in origins.items():
            if known == key or known.startswith(f"{key}."):
                return layer
        key = key[:-3] if key.endswith("[...]") else key.rpartition(".")[0]
    return "configuration"


def _known_keys(path: str) -> tuple[str, ...]:
    found: Struct = Config()
    for part in filter(None, path.strip(".").split(".")):
        if part.startswith("venues"):
            return VenueConfig.__struct_fields__
        below = getattr(found, part, None)
        found = below if isinstance(below, Struct) else found
    return found.__struct_fields__
