"""What every command is given: which configuration, which data folder, and which flags count.

The file is the one given with ``-c`` or ``FOREBAY_CONFIG``, else ``forebay.toml`` of the data
folder that is given, else that of the current folder. The data folder is the one given with
``--data``, ``FOREBAY_DATA`` or ``DATA_DIR``, else the file's.
"""

from __future__ import annotations

import dataclasses
import functools
import getpass
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from forebay.app.wiring.complaints import Complaints
from forebay.cli.output import DATA_VARIABLES, DEFAULT_DATA, ConfigOption, err, explained
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.app.reader import Data
    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.telemetry import Observer

EXAMPLE_VENUE = "coinbase"
"""What help and hints show; a configuration may name others."""
DataFlag = Annotated[Path | None, typer.Option("--data", help="Data folder.")]


@dataclasses.dataclass(frozen=True, slots=True)
class CaptureFlags:
    """Flags that describe a capture, and override the file."""

    venue: Annotated[str | None, typer.Option(help=f"Venue to capture: {EXAMPLE_VENUE}.")] = None
    symbols: Annotated[
        str | None, typer.Option(help="Symbols, comma-separated: BTC-USD,ETH-USD.")
    ] = None
    channels: Annotated[
        str | None,
        typer.Option(help="Kinds of event, comma-separated: trade,quote,book; or all."),
    ] = None
    data: DataFlag = None
    ws_url: Annotated[str | None, typer.Option(help="Another websocket address.")] = None
    rest_url: Annotated[str | None, typer.Option(help="Another REST address.")] = None


# ---------------------------------------------------------------------- commands


def prepare_commands(app: typer.Typer) -> None:
    """Have every command of ``app`` and its groups say its errors, and obey the rule."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _prepared(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            prepare_commands(group.typer_instance)


def _prepared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``command``, told which file and which folder count, with ``-c`` if it lacks that.

    A parameter that is a dataclass stands for its fields: each is an option.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, tuple[type[Any], list[str]]] = {}
    options: dict[str, inspect.Parameter] = {}
    for name, parameter in signature.parameters.items():
        options |= _fields(parameter) or {name: parameter}
        if name not in options:
            groups[name] = parameter.annotation, list(_fields(parameter))
    reads = "data" in options and options["data"].default == DEFAULT_DATA
    takes_config = "config" in options
    if reads:
        options["data"] = options["data"].replace(default=None)
        options.setdefault("config", _option("config", None, ConfigOption))

    @functools.wraps(command)
    def prepared(**given: Any) -> object:  # noqa: ANN401 - whatever options the command has
        with explained():
            if "config" in given:
                said = given["config"] if takes_config else given.pop("config")
                file = _file(said, given.get("data"))
                if takes_config:
                    given["config"] = file
                if reads:
                    given["data"] = _folder(said, file, given["data"])
            for name, (group, fields) in groups.items():
                given[name] = group(**{field: given.pop(field) for field in fields})
            return command(**given)

    prepared.__signature__ = signature.replace(parameters=[*options.values()])  # type: ignore[attr-defined]
    prepared.__annotations__ = {name: each.annotation for name, each in options.items()}
    return prepared


def _fields(parameter: inspect.Parameter) -> dict[str, inspect.Parameter]:
    """Return what a dataclass stands for; nothing of another type."""
    group = parameter.annotation
    if not dataclasses.is_dataclass(group):
        return {}
    hints = get_type_hints(group, include_extras=True)
    fields = dataclasses.fields(group)
    return {each.name: _option(each.name, each.default, hints[each.name]) for each in fields}


def _option(name: str, default: object, annotation: object) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _file(given: Path | None, data: Path | None) -> Path | None:
    from forebay.app.wiring.config import file_for

    said = data or next(filter(None, map(os.environ.get, DATA_VARIABLES)), None)
    return file_for(given, Path(said) if said else None, Path())


def _folder(given: Path | None, file: Path | None, data: Path | None) -> Path:
    """Return the data folder; a file that was found and is not needed may be wrong."""
    if file is None or (data is not None and given is None):
        return data or DEFAULT_DATA
    from forebay.app.wiring.config import load

    settings, _ = load(file, {}, {})
    return data or Path(settings.data)


# ----------------------------------------------------------- folders, configurations


def reading(data: Path, store: str | None = None) -> Data:
    """Open a data folder for reading, or one of its stores; who answers instead is said once."""
    from forebay.app.reader import Data

    told: set[str] = set()

    def tell(text: str) -> None:
        if text not in told:
            told.add(text)
            err.print(text)

    return Data(data, store=store or "", tell=tell)


def whoever() -> str:
    """Return the name of whoever runs this."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def offline_job(
    process: str, config: Path | None, data: Path | None
) -> tuple[Config, DataFolder, Observer]:
    """Return what a job without a capture goes by; it logs as ``process``, warnings alone."""
    from forebay.app.wiring import logs
    from forebay.app.wiring.config import load
    from forebay.app.wiring.data_folder import DataFolder

    settings, _ = load(config, {"data": str(data) if data else None})
    logs.configure("warning", process=process)
    return settings, DataFolder(Path(settings.data)), logs.observer()


def capture_config(
    file: Path | None, given: CaptureFlags, complaints: Complaints | None = None
) -> tuple[Config, dict[str, str]]:
    """Return the configuration and where each value came from; flags override the file.

    Raises :class:`~forebay.errors.ConfigError`, of all that is wrong with it, unless there are
    ``complaints`` to note that in.
    """
    from forebay.app.processes.process_breakers import validate
    from forebay.app.wiring import venues
    from forebay.app.wiring.config import STAND_INS, gathered
    from forebay.app.wiring.data_folder import DataFolder

    flags: dict[str, Any] = {"data": str(given.data) if given.data else None}
    if given.venue is not None:
        if not given.symbols:
            message = "--venue was given without --symbols."
            raise ConfigError(message, hint="Add for instance --symbols BTC-USD,ETH-USD.")
        flags["venues"] = [
            {
                "name": given.venue,
                "symbols": [venues.spelled(given.venue, each) for each in _words(given.symbols)],
                "channels": _words(given.channels or ""),
                "ws_url": given.ws_url or "",
                "rest_url": given.rest_url or "",
            }
        ]
    elif given.symbols or given.channels or given.ws_url or given.rest_url:
        message = "--symbols, --channels, --ws-url and --rest-url go with --venue."
        raise ConfigError(message, hint=f"Add --venue {EXAMPLE_VENUE}.")
    noted = Complaints() if complaints is None else complaints
    config, origins = gathered(file, flags, noted)
    with noted.noted():
        validate(config)
    with noted.noted():
        venues.install(DataFolder(Path(config.data)), config.venues)
    for configured in config.venues:
        absent = configured.plugin and configured.name not in venues.VENUES  # that was noted
        if configured.name != STAND_INS["name"] and not absent:
            with noted.noted():
                venues.check(configured)
    if config.downloader.venue:
        with noted.noted():
            check_downloader(config)
    if config.alternatives:
        from forebay.app.alternatives import check

        with noted.noted():
            check(config)
    if complaints is None:
        noted.tell()
    return config, origins


def check_downloader(config: Config) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if ``[downloader]`` wants what there is not."""
    from forebay.app.offline.download_plan import configured, plan, venue_config
    from forebay.clock import SystemClock

    wanted = configured(config)
    if wanted is not None:
        plan(wanted, venue_config(config, wanted).market, SystemClock().wall_ns())


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def need_venues(config: Config) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if there is nothing to capture or to bridge."""
    if not config.venues and not config.bridge.transport:
        hint = f"Say --venue {EXAMPLE_VENUE} --symbols BTC-USD, or write a file: forebay init."
        raise ConfigError("There is nothing to capture.", hint=hint)
