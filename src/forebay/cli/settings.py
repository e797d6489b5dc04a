"""Flags that describe a capture, and the configuration they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from forebay.app.config import Config

VenueFlag = Annotated[str | None, typer.Option("--venue", help="Venue to capture: coinbase.")]
SymbolsFlag = Annotated[
    str | None, typer.Option("--symbols", help="Symbols, comma-separated: BTC-USD,ETH-USD.")
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
) -> tuple[Config, dict[str, str]]:
    """Answer the configuration and where each value came from; flags override the file."""
    from forebay.app.config import load
    from forebay.app.guarding import validate
    from forebay.app.venues import check_addresses, check_venue

    flags: dict[str, Any] = {"data": str(data) if data else None}
    if venue is not None:
        if not symbols:
            message = "--venue was given without --symbols."
            raise ConfigError(message, hint="Add for instance --symbols BTC-USD,ETH-USD.")
        wanted = [symbol.strip().upper() for symbol in symbols.split(",") if symbol.strip()]
        flags["venues"] = [
            {"name": venue, "symbols": wanted, "ws_url": ws_url or "", "rest_url": rest_url or ""}
        ]
    elif symbols or ws_url or rest_url:
        message = "--symbols, --ws-url and --rest-url go with --venue."
        raise ConfigError(message, hint="Add --venue coinbase.")
    config, origins = load(file, flags)
    validate(config)
    for configured in config.venues:
        check_venue(configured.name)
        check_addresses(configured)
    return config, origins


def need_venues(config: Config) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if there is nothing to capture."""
    if not config.venues:
        hint = "Say --venue coinbase --symbols BTC-USD, or give a file with -c."
        raise ConfigError("There is nothing to capture.", hint=hint)
