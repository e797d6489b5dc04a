"""``forebay run``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.cli.output import ConfigOption, err, explained
from forebay.cli.settings import (
    ChannelsFlag,
    DataFlag,
    RestFlag,
    SymbolsFlag,
    VenueFlag,
    WsFlag,
    capture_config,
    need_venues,
)
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from forebay.app.config import Config
    from forebay.app.supervisor import Supervisor

_REFRESH_S = 1.0


def run(
    *,
    config: ConfigOption = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Run only this service: capture or deliver.")
    ] = None,
    venue: VenueFlag = None,
    symbols: SymbolsFlag = None,
    channels: ChannelsFlag = None,
    data: DataFlag = None,
    ws_url: WsFlag = None,
    rest_url: RestFlag = None,
) -> None:
    """Capture and deliver until stopped.

    SIGTERM or Ctrl-C (exit code 130) finishes what was received; SIGKILL loses nothing that was
    captured. SIGHUP reads the configuration again. Health, metrics and administration are served
    on http://127.0.0.1:8080 unless the configuration says otherwise.

    Example: forebay run --venue coinbase --symbols BTC-USD,ETH-USD --data DIR
    """
    with explained():

        def load() -> Config:
            found, _ = capture_config(
                config,
                data=data,
                venue=venue,
                symbols=symbols,
                channels=channels,
                ws_url=ws_url,
                rest_url=rest_url,
            )
            need_venues(found)
            return found

        settings = load()
        from forebay.app import logs
        from forebay.app.child import ROLES
        from forebay.app.supervisor import Supervisor

        if unknown := set(only or ()) - set(ROLES):
            message = f"There is no service {min(unknown)!r}."
            raise ConfigError(message, hint=f"There is: {', '.join(ROLES)}.")
        logs.configure(settings.log_level, process="supervisor")
        supervisor = Supervisor(settings, logs.observer(), only=tuple(only or ROLES), load=load)
        watch = _live if err.is_terminal else None
        with logs.unblocked():
            code = asyncio.run(supervisor.run(watch))
        if code or supervisor.interrupted:
            raise typer.Exit(code or 130)


async def _live(supervisor: Supervisor) -> None:
    """Show events/s and lag on a terminal until cancelled."""
    from rich.console import Console
    from rich.live import Live

    from forebay.app.asking import Told, statuses

    before: dict[str, dict[str, Any] | None] = {}
    console = Console(stderr=True, force_terminal=True, highlight=False, soft_wrap=True)
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while True:
            report = supervisor.system.last
            now = statuses(Told(report, ""))
            live.update(f"{report.health.state} · {summary(before, now, _REFRESH_S)}")
            before = now
            await supervisor.clock.sleep(_REFRESH_S)


def summary(
    before: dict[str, dict[str, Any] | None],
    now: dict[str, dict[str, Any] | None],
    seconds: float,
) -> str:
    """Answer one line about what runs: rates, lag, latency and gaps."""
    capture, deliver = now.get("capture"), now.get("deliver")
    if capture is None or deliver is None:
        away = " and ".join(sorted(role for role, told in now.items() if told is None))
        return f"{away} not answering yet"
    frames = capture["captured"] - ((before.get("capture") or capture)["captured"])
    rows = deliver["rows"] - ((before.get("deliver") or deliver)["rows"])
    lag = max(capture["next_seq"] - deliver["seq"], 0)
    gaps = deliver["gaps"]
    return (
        f"{capture['connected']} connected · {max(frames, 0) / seconds:,.0f} frames/s captured · "
        f"{max(rows, 0) / seconds:,.0f} events/s stored · lag {lag:,} frames · "
        f"p99 {capture['p99_ms']:.1f} ms · gaps {gaps['open']} open, {gaps['filled']} filled, "
        f"{gaps['permanent']} permanent"
    )
