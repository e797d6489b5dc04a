"""The keys of ``forebay.toml`` with what they mean, and what ``forebay init`` writes of them."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import NODEFAULT, Struct, structs
from msgspec import inspect as types

from forebay.app.processes.process_breakers import LIVE, in_force
from forebay.app.wiring.config import LISTS, Config
from forebay.field_texts import field_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH = 80
_HEAD = (
    "Forebay. Every key can be left out. What is written is the default, except the venue, which "
    "is an example; what stands behind a # is a default that depends, or an example. The same keys "
    "can be given as variables: FOREBAY_DATA, FOREBAY_JOURNAL__LINGER_MS and so on. While it runs, "
    f"these may change: {', '.join(key + '*' * key.endswith('.') for key in LIVE)}. Edit, then "
    "send SIGHUP."
)
EXAMPLES: Final[dict[str, object]] = {
    "venues.name": "coinbase",
    "venues.symbols": ["BTC-USD", "ETH-USD"],
    "venues.channels": ["trade"],
    "venues.polled": ["trade"],
    "venues.market": "spot",
    "venues.depth": 50,
    "venues.ws_url": "wss://…",
    "venues.rest_url": "https://…",
    "venues.credentials_file": "venue.toml",
    "venues.stale_after_s": 10.0,
    "venues.symbols_per_connection": 100,
    "venues.refresh_s": 60.0,
    "venues.connections": 10,
    "venues.plugin": "package.module:VENUE",
    "venues.calendar": "24/7",
    "calendars.name": "floor",
    "calendars.weekly": ["Mon-Fri 09:30-16:00"],
    "calendars.closed": ["12-25", "2026-11-27 13:00/2026-11-27 16:00"],
    "alternatives.sources": ["coinbase:BTC-USD", "massive/crypto:BTC-USD"],
    "transports.kind": "kafka",
    "transports.name": "kafka-2",
    "transports.servers": "127.0.0.1:9092",
    "transports.mode": "core",
    "transports.options": {"security.protocol": "SSL"},
    "transports.credentials_file": "kafka.toml",
    "transports.plugin": "package.module:TRANSPORT",
    "bridge.transport": "kafka-2",
    "downloader.venue": "coinbase",
    "downloader.symbols": ["BTC-USD"],
    "downloader.since": "2026-01-01",
    "downloader.market": "spot",
    "journal.retain_gb": 100.0,
    "store.name": "main",
    "store.url": "http://127.0.0.1:8123",
    "store.credentials_file": "clickhouse.toml",
    "store.options": {"connect_timeout": "10"},
    "store.plugin": "package.module:STORE",
    "mirrors.kind": "clickhouse",
    "mirrors.name": "second",
    "mirrors.url": "http://127.0.0.1:8124",
    "mirrors.credentials_file": "clickhouse.toml",
    "mirrors.options": {"connect_timeout": "10"},
    "mirrors.plugin": "package.module:STORE",
    "http.token": "secret",
    "http.token_file": "token",
    "resilience.critical": ["coinbase-rest"],
}
"""What is shown of keys whose default says nothing."""


class Key(NamedTuple):
    """One key of the configuration."""

    path: str
    """With its table, such as ``journal.retain``."""
    type: types.Type
    default: object
    """``NODEFAULT`` if it must be given."""
    meaning: str

    @property
    def table(self) -> str:
        """The table it is in; nothing at the top."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The key without its table."""
        return self.path.rpartition(".")[2]


class Table(NamedTuple):
    """One table of the configuration, whose keys are ``keys``."""

    name: str
    meaning: str
    keys: list[Key]


def tables(
    name: str = "",
    struct: type[Struct] = Config,
    meaning: str = "Everything that can be configured.",
) -> Iterator[Table]:
    """Return every table and key in their order; the first table is the top, without a name."""
    meanings, defaults = field_texts(struct), _defaults(name)
    keys, below = [], []
    for field in structs.fields(struct):
        path = f"{name}.{field.name}".lstrip(".")
        kind = types.type_info(field.type)
        inner = kind.item_type if isinstance(kind, types.VarTupleType) else kind
        said = meanings.get(field.name, "")
        if isinstance(inner, types.StructType):
            own = (inner.cls.__doc__ or "").partition("\n")[0]
            below.append((path, inner.cls, said or own))
        else:
            default = defaults.get(field.name, field.default)
            keys.append(Key(path, kind, default, said))
    yield Table(name, meaning, keys)
    for deeper in below:
        yield from tables(*deeper)


def _defaults(name: str) -> dict[str, object]:
    """Return what holds in a table if nothing is said, presets of breakers included."""
    if name in LISTS:
        return {}
    found = in_force(Config())
    for part in filter(None, name.split(".")):
        found = getattr(found, part)
    return structs.asdict(found)


def template() -> str:
    """Return a commented configuration that holds the defaults and one venue as an example."""
    parts = [_comment(_HEAD)]
    for table in tables():
        keys = [_lines(key) for key in table.keys if _value(key) is not None]
        if not table.name:
            parts += keys
            continue
        header = f"[[{table.name}]]" if table.name in LISTS else f"[{table.name}]"
        off = "" if any(map(_is_set, table.keys)) else "# "
        parts.append(f"{_comment(table.meaning)}{off}{header}\n{''.join(keys)}")
    return "\n".join(parts)


def _lines(key: Key) -> str:
    off = "" if _is_set(key) else "# "
    return f"{_comment(key.meaning)}{off}{key.name} = {shown(_value(key))}\n"


def _value(key: Key) -> object:
    alike = key.path.replace("bridge.store.", "store.")  # a bridge has a store of its own
    return EXAMPLES.get(alike, key.default)


def _is_set(key: Key) -> bool:
    """Return whether the template sets the key; else it shows it behind a #."""
    if key.table in LISTS:
        return key.table == "venues" and key.default is NODEFAULT
    breaker = key.table.startswith("resilience.")
    return not breaker and key.path != "data" and key.default not in (None, "", (), {})


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, _WIDTH - 2))


def shown(value: object) -> str:
    """Return a value as TOML has it."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{shown(key)} = {shown(each)}' for key, each in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)
