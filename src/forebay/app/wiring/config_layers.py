"""What a configuration file and the environment say, before it is checked."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from forebay.app.wiring.complaints import Complaints

ALIASES = {
    "DATA_DIR": ("data",),
    "LOG_LEVEL": ("log_level",),
    "HEALTH_PORT": ("http.port",),
    "HEALTH_CHECK_INTERVAL": ("resilience.check_interval_s",),
    "ENABLE_AUTO_RECOVERY": ("resilience.auto_recovery",),
    "CLICKHOUSE_CIRCUIT_BREAKER_THRESHOLD": (
        "resilience.clickhouse.failure_threshold",
        "resilience.clickhouse_bridge.failure_threshold",
    ),
}
"""Environment names that other deployments use, and our keys."""
SERVERS = {"KAFKA_BROKER": "kafka", "KAFKA_BROKERS": "kafka", "NATS_URL": "nats"}
"""Environment names of the servers of a kind of transport; of two for one kind, the last counts."""
_PREFIX = "FOREBAY_"
FILE_VARIABLE = "FOREBAY_CONFIG"
"""Names the file, and is no key."""


def from_file(file: Path | None) -> dict[str, Any]:
    """Return what a configuration file says; nothing if there is none."""
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        message = f"The configuration file {file} cannot be read: {error.strerror}."
        raise ConfigError(message, hint="Make one with `forebay init`.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"The configuration file {file} is not valid TOML: {error}."
        raise ConfigError(message, hint="Correct that line.") from error


def from_environment(environment: Mapping[str, str], complaints: Complaints) -> dict[str, Any]:
    """Return what variables say; what cannot be read is noted in ``complaints``."""
    found: dict[str, Any] = {}
    ours = [
        (name, name.removeprefix(_PREFIX).lower().split("__"))
        for name in sorted(environment)  # a table before its keys
        if name.startswith(_PREFIX) and name != FILE_VARIABLE
    ]
    aliases = [
        (name, path.split("."))
        for name, paths in ALIASES.items()
        for path in paths
        if name in environment
    ]
    for name, (*sections, key) in aliases + ours:
        with complaints.noted():
            table, text = found, environment[name]
            for section in sections:
                table = _table(table, section, name)
            try:
                table[key] = msgspec.json.decode(text) if text[:1] in ("[", "{") else text
            except msgspec.DecodeError as error:
                message = f"The variable {name} is not valid JSON: {error}."
                raise ConfigError(message, hint="Lists and tables are written as JSON.") from error
    if "log_level" in found:
        found["log_level"] = str(found["log_level"]).lower()
    return found


def with_servers(environment: Mapping[str, str], layers: dict[str, dict[str, Any]]) -> None:
    """Put the servers that :data:`SERVERS` name into the last of ``layers``.

    They are those of the first table of their kind, which is added if there is none.
    """
    told = {SERVERS[name]: environment[name] for name in SERVERS if environment.get(name)}
    if not told:
        return
    lists = [layer["transports"] for layer in layers.values() if "transports" in layer]
    found = lists[-1] if lists and isinstance(lists[-1], list) else []
    tables = [dict(each) if isinstance(each, dict) else each for each in found]
    for kind, servers in told.items():
        theirs = (each for each in tables if isinstance(each, dict) and each.get("kind") == kind)
        table = next(theirs, None)
        if table is None:
            tables.append({"kind": kind, "servers": servers})
        else:
            table["servers"] = servers
    layers[[*layers][-1]]["transports"] = tables


def _table(table: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    found = table.setdefault(section, {})
    if not isinstance(found, dict):
        message = f"The variable {name} sets a key of {section!r}, which has a plain value."
        raise ConfigError(message, hint="Unset one of the two.")
    return found
