"""Configuration: ``forebay.toml``, the environment and flags, checked once at start.

Precedence: flag, environment, file, default. Every key has an environment twin:
``FOREBAY_`` and its path in capitals, parts joined by two underscores, for instance
``FOREBAY_JOURNAL__LINGER_MS``; lists are JSON.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE_NAME = "forebay.toml"
ALIASES = {"DATA_DIR": "data", "LOG_LEVEL": "log_level"}
"""Environment names that other deployments use, and our keys."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VenueConfig(_Section):
    """One venue to capture."""

    name: str
    symbols: tuple[str, ...] = Field(min_length=1)
    ws_url: str = ""
    rest_url: str = ""
    stale_after_s: float = Field(default=10.0, gt=0)
    reconnect_base_s: float = Field(default=0.5, gt=0)


class JournalConfig(_Section):
    """The durable log."""

    linger_ms: float = Field(default=5.0, gt=0, le=1000)
    segment_mb: int = Field(default=64, ge=1, le=4096)
    max_pending_mb: int = Field(default=32, ge=1)


class StoreConfig(_Section):
    """Where events rest."""

    kind: Literal["duckdb"] = "duckdb"
    memory_limit_mb: int = Field(default=1024, ge=64)


class QueryConfig(_Section):
    """Queries answered while a capture runs."""

    timeout_s: float = Field(default=60.0, gt=0)


class FillConfig(_Section):
    """Filling gaps from the venues' history."""

    enabled: bool = True
    poll_s: float = Field(default=1.0, gt=0)


class Config(BaseSettings):
    """Everything that can be configured."""

    model_config = ConfigDict(extra="forbid", frozen=True)  # type: ignore[assignment]

    data: Path = Path("data")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Field()] = "info"
    collector: str = Field(default="collector-1", min_length=1)
    venues: tuple[VenueConfig, ...] = ()
    journal: JournalConfig = JournalConfig()
    store: StoreConfig = StoreConfig()
    query: QueryConfig = QueryConfig()
    fill: FillConfig = FillConfig()

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[Any, ...]:  # noqa: ANN401
        """Take values from nowhere but the caller: :func:`load` has merged the layers."""
        return (sources["init_settings"],)


Layers = dict[str, dict[str, Any]]


def load(
    file: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> tuple[Config, dict[str, str]]:
    """Answer the configuration and, by key, which layer its value came from.

    Raises :class:`~forebay.errors.ConfigError` in one sentence that says what to do.
    """
    environ = os.environ if environment is None else environment
    layers: Layers = {
        "file": _from_file(file),
        "environment": _from_environment(environ),
        "flag": {key: value for key, value in flags.items() if value is not None},
    }
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, layer in layers.items():
        _merge(merged, layer)
        for key, _ in _leaves(layer):
            origins[key] = name
    try:
        config = Config(**merged)
    except ValidationError as error:
        raise _explain(error, origins, file) from error
    return config, {key: origins.get(key, "default") for key, _ in _leaves(config.model_dump())}


def leaves(config: Config) -> Iterator[tuple[str, Any]]:
    """Answer every key with its value."""
    return _leaves(config.model_dump(mode="json"))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, dict) else value


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        message = f"The configuration file {file} cannot be read: {error.strerror}."
        raise ConfigError(message, hint="Make one with `forebay init`.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"The configuration file {file} is not valid TOML: {error}."
        raise ConfigError(message, hint="Correct that line.") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    source = EnvSettingsSource(Config, env_prefix="FOREBAY_", env_nested_delimiter="__")
    source.env_vars = {key.lower(): value for key, value in environment.items()}
    try:
        found: dict[str, Any] = source()
    except ValueError as error:
        message = f"A FOREBAY_ variable of the environment is not valid: {error}."
        raise ConfigError(message, hint="Lists are JSON.") from error
    for alias, key in ALIASES.items():
        if alias in environment:
            found.setdefault(key, environment[alias])
    if isinstance(found.get("log_level"), str):
        found["log_level"] = found["log_level"].lower()
    return found


def _explain(error: ValidationError, origins: Mapping[str, str], file: Path | None) -> ConfigError:
    """Turn the first complaint into one sentence."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    origin = next((origins[name] for name in origins if name.startswith(path[0])), "flag")
    where = str(file) if origin == "file" else f"the {origin}"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _known_keys(path[:-1]), n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "`forebay init` writes every known key."
        return ConfigError(f"There is no key {key!r} ({where}).", hint=hint)
    if first["type"] == "missing":
        return ConfigError(f"The key {key!r} is missing ({where}).", hint="Add it.")
    message = f"The value of {key!r} ({where}) is wrong: {first['msg']}, not {first['input']!r}."
    return ConfigError(message, hint="Correct it.")


def _known_keys(path: list[str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in path:
        if part.isdigit():
            continue
        field = model.model_fields.get(part)
        kind = VenueConfig if part == "venues" else field.annotation if field else None
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            model = kind
    return list(model.model_fields)


TEMPLATE = """\
# Forebay. Every key can be left out; what is shown is the default unless marked.
# The same keys can be given as FOREBAY_DATA, FOREBAY_JOURNAL__LINGER_MS and so on.

# Where the journal, the database and the sockets live.
data = "data"

# debug, info, warning or error; logs go to stderr.
log_level = "info"

# Name of this collector, kept with every frame.
collector = "collector-1"

# What to capture; repeat the table for more venues. This one is an example.
[[venues]]
name = "coinbase"
symbols = ["BTC-USD", "ETH-USD"]
# ws_url = "wss://..."        # elsewhere than the venue's public address
# rest_url = "https://..."
# stale_after_s = 10.0        # a connection silent for longer is replaced
# reconnect_base_s = 0.5      # first wait between two tries; full jitter, cap 30 s

[journal]
linger_ms = 5.0               # how long the first frame of a group waits for company
segment_mb = 64
max_pending_mb = 32           # sources pause above this much not yet captured

[store]
kind = "duckdb"
memory_limit_mb = 1024

[query]
timeout_s = 60.0              # of `forebay sql` while a capture runs

[fill]
enabled = true                # fill gaps from the venue's history
poll_s = 1.0
"""
