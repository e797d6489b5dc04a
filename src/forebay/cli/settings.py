"""Flags that describe a capture, and the configuration they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.app.wiring.complaints import Complaints
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from forebay.app.wiring.config import Config

EXAMPLE_VENUE = "coinbase"
"""What help and hints show; a configuration may name others."""
VenueFlag = Annotated[
    str | None, typer.Option("--venue", help=f"Venue to capture: {EXAMPLE_VENUE}.")
]
SymbolsFlag = Annotated[
    str | None, typer.Option("--symbols", help="Symbols, comma-separated: BTC-USD,ETH-USD.")
]
ChannelsFlag = Annotated[
    str | None,
    typer.Option("--channels", help="Kinds of event, comma-separated: trade,quote,book; or all."),
]
WsFlag = Annotated[str | None, typer.Option("--ws-url", help="Another websocket address.")]
RestFlag = Annotated[str | None, typer.Option("--rest-url", help="Another REST address.")]
DataFlag = Annotated[Path | None, typer.Option("--data", help="Data folder.")]


def capture_config(
    file: Path | None,
    *,
    data: Path | None,
    venue: str | None,
    symbols: str | None,
    ws_url: str | None,
    rest_url: str | None,
    channels: str | None = None,
    complaints: Complaints | None = None,
) -> tuple[Config, dict[str, str]]:
    """Return the configuration and where each value came from; flags override the file.

    Raises :class:`~forebay.errors.ConfigError`, of all that is wrong with it, unless there are
    ``complaints`` to note that in.
    """
    from forebay.app.processes.process_breakers import validate
    from forebay.app.wiring import venues
    from forebay.app.wiring.config import STAND_INS, gathered
    from forebay.app.wiring.data_folder import DataFolder

    flags: dict[str, Any] = {"data": str(data) if data else None}
    if venue is not None:
        if not symbols:
            message = "--venue was given without --symbols."
            raise ConfigError(message, hint="Add for instance --symbols BTC-USD,ETH-USD.")
        flags["venues"] = [
            {
                "name": venue,
                "symbols": [word.upper() for word in _words(symbols)],
                "channels": _words(channels or ""),
                "ws_url": ws_url or "",
                "rest_url": rest_url or "",
            }
        ]
    elif symbols or channels or ws_url or rest_url:
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
    """Raise :class:`~forebay.errors.ConfigError` if there is nothing to capture."""
    if not config.venues:
        hint = f"Say --venue {EXAMPLE_VENUE} --symbols BTC-USD, or write a file: forebay init."
        raise ConfigError("There is nothing to capture.", hint=hint)
