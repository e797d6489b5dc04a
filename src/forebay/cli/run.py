"""``forebay run``."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.output import ConfigOption, err
from forebay.cli.settings import CaptureFlags, capture_config, need_venues
from forebay.cli.status import line
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from forebay.app.processes.supervisor import Supervisor
    from forebay.app.wiring.config import Config

_REFRESH_S = 0.5


def run(
    *,
    config: ConfigOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Run only this service: capture, deliver, mirror or publish, or one publish-NAME."
        ),
    ] = None,
    given: CaptureFlags,
) -> None:
    """Capture and deliver until stopped.

    SIGTERM or Ctrl-C (exit code 130) finishes what was received; SIGKILL loses nothing that was
    captured. SIGHUP reads the configuration again. Health, metrics and administration are served
    on http://127.0.0.1:8080 unless the configuration says otherwise.

    Example: forebay run --venue coinbase --symbols BTC-USD,ETH-USD --data DIR
    """

    def load() -> Config:
        found, _ = capture_config(config, given)
        need_venues(found)
        return found

    settings = load()
    from forebay.app.processes.supervisor import Supervisor
    from forebay.app.processes.worker import roles
    from forebay.app.wiring import logs

    known = roles(settings)
    wanted = {role: role.partition("-")[0] for role in known}
    if unknown := set(only or ()) - {*wanted, *wanted.values()}:
        message = f"There is no service {min(unknown)!r}."
        raise ConfigError(message, hint=f"There is: {', '.join(known)}.")
    chosen = [role for role, kind in wanted.items() if not only or {role, kind} & {*only}]
    logs.configure(settings.log_level, process="supervisor")
    supervisor = Supervisor(settings, logs.observer(), only=tuple(chosen), load=load)
    terminal = err.is_terminal
    with logs.unblocked():
        code = asyncio.run(supervisor.run(_live if terminal else None))
    if terminal and supervisor.stopped:
        with contextlib.suppress(OSError):  # it may be gone
            err.print(str(supervisor.stopped))
    if code or supervisor.interrupted:
        raise typer.Exit(code or 130)


async def _live(supervisor: Supervisor) -> None:
    """Show on a terminal what runs, in one line, until cancelled."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from forebay.visible import visible

    console = Console(stderr=True, force_terminal=True, highlight=False, soft_wrap=True)
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while True:
            live.update(Text(visible(shown(supervisor, console.width))))
            await supervisor.clock.sleep(_REFRESH_S)


def shown(supervisor: Supervisor, width: int) -> str:
    """Return the line: the first word is starting, the last one stopping."""
    from forebay.cli.status import SystemStatus

    if supervisor.stop.is_set():
        return "stopping: what is captured is stored"
    return line(SystemStatus(supervisor.system.last, ""), width)
