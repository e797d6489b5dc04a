"""The one place that opens transports; a kind of them is brought in when one is configured."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from forebay.app.wiring import stores
from forebay.app.wiring.data_folder import Consumer
from forebay.app.wiring.stores import MIRROR, load_plugin
from forebay.errors import ConfigError
from forebay.text import did_you_mean
from forebay.transports.kind import TransportKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.app.wiring.complaints import Complaints
    from forebay.app.wiring.config import Config
    from forebay.transports.kind import TransportConfig

KINDS = {
    "kafka": "forebay.transports.kafka:TRANSPORT",
    "nats": "forebay.transports.nats:TRANSPORT",
}
"""Where the kinds of this tree are; each needs the extra of its name."""
ROLE = "publish-"
"""How the role of a publish process begins; the name of its transport follows."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def name_of(config: TransportConfig) -> str:
    """Return what a transport is called."""
    return config.name or config.kind


def kind_of(config: TransportConfig) -> TransportKind:
    """Return the kind of a transport. Raises :class:`~forebay.errors.ConfigError`."""
    where = config.plugin or KINDS[config.kind]
    return load_plugin(where, "transport", TransportKind, "TRANSPORT")


def required(config: TransportConfig) -> bool:
    """Return whether the journal keeps what a transport has not acknowledged.

    One that keeps nothing itself would hold the journal for nothing.
    """
    return config.required and kind_of(config).durable(config)


def consumers(config: Config) -> list[Consumer]:
    """Return who reads the journal beside the store: its mirrors, and the publishers."""
    if config.bridge.transport and not config.venues:  # there is no journal
        return []
    mirrors = [
        Consumer(MIRROR + stores.name_of(each), each.required) for each in stores.fed(config)
    ]
    published = [Consumer(ROLE + name_of(each), required(each)) for each in config.transports]
    return mirrors + published


def check_transports(transports: Sequence[TransportConfig], complaints: Complaints) -> None:
    """Note what is wrong with the tables; no kind is brought in for it."""
    seen: set[str] = set()
    for number, config in enumerate(transports):
        with complaints.noted():
            _check(config, f"transports[{number}]", seen)
        seen.add(name_of(config))


def _check(config: TransportConfig, key: str, seen: set[str]) -> None:
    name = name_of(config)
    if not config.plugin and config.kind not in KINDS:
        hint = did_you_mean(config.kind, KINDS, f"There is: {', '.join(KINDS)}.")
        raise ConfigError(f"There is no transport of the kind {config.kind!r} ({key}).", hint=hint)
    if not _NAME.fullmatch(name):
        hint = "Write letters, digits, - and _."
        raise ConfigError(f"The name {name!r} of {key} cannot be.", hint=hint)
    if name in seen:
        hint = "Give each its own: name = …"
        raise ConfigError(f"Two transports are called {name!r}.", hint=hint)
