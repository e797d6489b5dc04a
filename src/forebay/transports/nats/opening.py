"""From a ``[[transports]]`` table to a transport."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from forebay.errors import ConfigError
from forebay.secret_files import read_secrets
from forebay.times import span_ns
from forebay.transports.nats.connection import NatsConnection
from forebay.transports.nats.fan_out import NatsFanOut
from forebay.transports.nats.streams import StreamLimits
from forebay.transports.nats.transport import NatsTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.ports import SharedLanes
    from forebay.telemetry import Observer
    from forebay.transports.kind import TransportConfig

SERVERS = "127.0.0.1:4222"
CORE, JETSTREAM = "core", "jetstream"
DRIVER_OPTIONS = frozenset(
    {
        *("user", "password", "token", "user_credentials", "nkeys_seed", "nkeys_seed_str"),
        *("inbox_prefix", "name", "tls_hostname"),
    }
)
"""Those of ``nats.connect`` that are texts."""
TLS_OPTIONS = frozenset({"ca_file", "cert_file", "key_file"})
STREAM_OPTIONS = frozenset({"max_bytes", "duplicate_window", "session"})


def open_nats(config: TransportConfig, observer: Observer) -> SharedLanes:
    """Make a transport; see :class:`~forebay.transports.kind.TransportKind`."""
    mode = _mode(config)
    options = _options(config)
    limits = StreamLimits(
        config.replicas,
        span_ns(config.retain),
        span_ns(options.get("duplicate_window", "120s")),
        _whole(options.get("max_bytes", "-1")),
        span_ns(options.get("session", "10s")),
    )
    connection = NatsConnection(_servers(config), _driver_options(options))
    if mode == CORE:
        return NatsFanOut(connection)
    return NatsTransport(connection, limits, observer=observer)


def probe_nats(config: TransportConfig) -> str:
    """Return what answers; see :class:`~forebay.transports.kind.TransportKind`."""
    mode = _mode(config)
    connection = NatsConnection(_servers(config), _driver_options(_options(config)))
    try:
        server = connection.run(connection.client()).connected_server_version
        version = f"{server.major}.{server.minor}.{server.patch}"
        if mode == CORE:
            return f"NATS {version}"
        streams = connection.run(connection.ask("INFO"))["streams"]
        return f"NATS {version} with JetStream, {streams} streams"
    finally:
        connection.close()


def _mode(config: TransportConfig) -> str:
    mode = config.mode or JETSTREAM
    if mode not in (CORE, JETSTREAM):
        raise ConfigError(f"NATS has no mode {mode!r}.", hint="Write jetstream or core.")
    return mode


def _servers(config: TransportConfig) -> list[str]:
    named = [each.strip() for each in (config.servers or SERVERS).split(",")]
    return [each if "://" in each else f"nats://{each}" for each in named if each]


def _options(config: TransportConfig) -> dict[str, str]:
    options = {**config.options, **read_secrets(config.credentials_file, config.name or "nats")}
    known = DRIVER_OPTIONS | TLS_OPTIONS | STREAM_OPTIONS
    if unknown := sorted(options.keys() - known):
        hint = f"There are {', '.join(sorted(known))}."
        raise ConfigError(f"NATS has no option {unknown[0]!r}.", hint=hint)
    return options


def _driver_options(options: Mapping[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": "forebay"}
    made |= {name: value for name, value in options.items() if name in DRIVER_OPTIONS}
    if TLS_OPTIONS & options.keys():
        try:
            context = ssl.create_default_context(cafile=options.get("ca_file"))
            if "cert_file" in options:
                context.load_cert_chain(options["cert_file"], options.get("key_file"))
        except OSError as error:
            raise ConfigError(f"A certificate cannot be used: {error}.") from error
        made["tls"] = context
    return made


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        hint = "Write a whole number of bytes."
        raise ConfigError(f"{text!r} is no max_bytes.", hint=hint) from error
