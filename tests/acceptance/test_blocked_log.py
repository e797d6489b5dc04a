"""A capture whose standard error nobody reads, or that has none: it goes on, and says so."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from forebay.app.wiring.data_folder import DataFolder
from forebay.lab.commands import FOREBAY
from tests.support.commands import Running, ended, environment, forebay, simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSED = 'exec 0<&- 1>&- 2>&-; exec "$@"'


@contextlib.contextmanager
def run(data: Path, flags: tuple[str, ...], *, blocked: bool) -> Iterator[Running]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b"-" * 4096)
    arguments = ["run", "--venue", "coinbase", "--symbols", "BTC-USD", "--data", str(data), *flags]
    before = [] if blocked else ["bash", "-c", CLOSED, "sh"]
    with subprocess.Popen(
        [*before, *FOREBAY, *arguments],
        stdin=subprocess.DEVNULL,
        stderr=writing,
        env=environment({"FOREBAY_HTTP__PORT": "0"}),
    ) as process:
        try:
            yield Running(process, DataFolder(data), data)
        finally:
            ended(process, signal.SIGKILL)
            os.close(reading)
            os.close(writing)


@pytest.mark.parametrize("blocked", [True, False])
@pytest.mark.drill
def test_capture_and_health_go_on_while_no_line_can_be_written(
    tmp_path: Path, blocked: bool
) -> None:
    data = tmp_path / "data"
    with simulator("--rate", 300) as lab, run(data, lab.flags, blocked=blocked) as running:
        seen = running.captured(50)["capture"]["captured"]
        running.captured(seen + 100)
        for told in (running.told() or {}).values():  # nor would it while the supervisor is stopped
            flags = Path(f"/proc/{told['pid']}/fdinfo/2").read_text(encoding="ascii").split()[3]
            assert int(flags, 8) & os.O_NONBLOCK
        status = forebay("status", "--data", data, "--json")
        assert (status.code, status.json["running"]) == (0, True)
        with httpx.Client(base_url=status.json["http"], timeout=20.0) as client:
            assert client.get("/health/live").status_code == 200
            scraped = client.get("/metrics").text
        lost = 'forebay_log_lines_lost_total{service="supervisor"} '
        assert (float(scraped.partition(lost)[2].split()[0]) > 0) is not blocked, "they wait"
        assert ended(running.process) == 0
    assert forebay("sql", "SELECT count(*) FROM trades", "--data", data, "--json").code == 0
