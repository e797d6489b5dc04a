"""Real processes that capture and store what the made-up venue sends in some editions."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from forebay.app.processes.local_socket import ask
from forebay.app.wiring.config import Config, JournalConfig, VenueConfig
from forebay.app.wiring.data_folder import DataFolder
from forebay.app.wiring.history_config import FillConfig
from forebay.errors import ForebayError
from forebay.journal import OS_DISK
from forebay.journal.watermark import WatermarkReader
from forebay.stores.kind import StoreConfig
from tests.benchmarks.harness import ROOT, environment
from tests.exam.made import plugin
from tests.exam.made.connector import DEPTH
from tests.exam.server import POLLS, REFUSED, serving, write_credentials
from tests.exam.wire import SYMBOLS
from tests.support.commands import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.exam.made.protocol import Edition
    from tests.exam.server import MadeServer

STOP_S = 60


Beside = Callable[[DataFolder], AbstractContextManager[object]]


def capture(
    root: Path,
    editions: Sequence[Edition],
    count: int,
    beside: Beside = contextlib.nullcontext,
) -> DataFolder:
    """Capture ``count`` events of each of ``editions`` and store them; return the data folder.

    What ``beside`` gives is open from before the first frame until all is stored.
    """
    folder = DataFolder(root / "data").create()
    secret = write_credentials(root / "secret.toml")
    wanted = (count + POLLS * len(SYMBOLS)) * len(editions)
    with serving(count) as (server, host):
        config = Config(
            data=str(folder.root),
            venues=tuple(_configured(edition, host, secret) for edition in editions),
            journal=JournalConfig(segment_mb=1),
            store=StoreConfig(parquet=False),
            fill=FillConfig(poll_s=0.2),
        )
        with beside(folder), _running("deliver", config) as deliver:
            with _running("capture", config) as capturing:
                wait_for(
                    lambda: _stored(folder, (deliver, capturing), wanted),
                    "all events stored",
                    120.0,
                )
            wait_for(lambda: _drained(folder), "the ends of the connections stored", 60.0)
    _require_all_used(server, editions)
    return folder


def _configured(edition: Edition, host: str, secret: str) -> VenueConfig:
    return VenueConfig(
        name=edition.venue,
        symbols=(*SYMBOLS, REFUSED),
        ws_url=f"ws://{host}/ws/{edition.venue}",
        rest_url=f"http://{host}/rest/{edition.venue}",
        credentials_file=secret,
        depth=DEPTH,
        plugin=plugin(edition),
    )


def _require_all_used(server: MadeServer, editions: Sequence[Edition]) -> None:
    """Every part of a venue was used, and as the venue wants it."""
    assert server.wrong == []
    connections = server.seen["signed upgrade"]
    assert connections >= len(editions)
    assert server.seen["whole list"] >= len(editions)
    assert server.seen["sorry"] >= len(editions)
    wanted = {f"history by {edition.history}" for edition in editions if edition.history}
    assert wanted | {"ping", "poll"} <= server.seen.keys()


@contextlib.contextmanager
def _running(role: str, config: Config) -> Iterator[subprocess.Popen[bytes]]:
    """Run one process until the block ends; then it finishes its work."""
    command = [sys.executable, "-m", "tests.exam.process", role]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE)
    assert process.stdin is not None
    try:
        process.stdin.write(config.encode() + b"\n")
        process.stdin.flush()
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()


def _stored(
    folder: DataFolder, processes: Sequence[subprocess.Popen[bytes]], wanted: int
) -> bool | None:
    assert all(process.poll() is None for process in processes), "a process ended"
    return _status(folder, "rows") >= wanted or None


def _drained(folder: DataFolder) -> bool | None:
    """Whether the store has consumed the records that ended the connections."""
    with contextlib.suppress(ForebayError):
        answer, _ = ask(folder.deliver_socket, {"op": "status"})
        reader = WatermarkReader(OS_DISK, folder.journal)
        try:
            mark = reader.read()
        finally:
            reader.close()
        return (mark is not None and answer["seq"] >= mark.next_seq) or None
    return None


def _status(folder: DataFolder, name: str) -> int:
    with contextlib.suppress(ForebayError):
        answer, _ = ask(folder.deliver_socket, {"op": "status"})
        return int(answer[name])
    return 0
