"""Our commands as processes, from tests that are plain functions.

Every process that is started here is a context: it is stopped when the context is left, also
when the test fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import typer.testing

from forebay.app.processes.local_socket import ask
from forebay.app.processes.supervisor import statuses
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.lab.commands import FOREBAY, STOP_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

OURS = (
    "FOREBAY_",
    "DATA_DIR",
    "LOG_LEVEL",
    "HEALTH_",
    "ENABLE_AUTO_RECOVERY",
    "KAFKA_",
    "NATS_URL",
)
"""Names that configure Forebay; a test's commands see only those that the test gives."""
SLOW_S = 60.0
TWO_SYMBOLS = """
data = "{data}"

[[venues]]
name = "coinbase"
symbols = ["BTC-USD", "ETH-USD"]
ws_url = "{lab.ws_url}"
rest_url = "{lab.rest_url}"
"""
"""A configuration that captures a simulator, with what it stands for put in by ``format``."""
T = TypeVar("T")


class Answer(NamedTuple):
    """What a command that ended has said."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - a document can be anything
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.stdout)

    @property
    def sentence(self) -> str:
        """Standard error as the one line that it must be."""
        lines = self.stderr.strip().splitlines()
        assert len(lines) == 1, self.stderr
        return lines[0]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Answer this process's environment with nothing of Forebay in it but ``extra``."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(OURS)}
    return inherited | dict(extra or {})


def forebay(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: int = subprocess.PIPE,
) -> Answer:
    """Run one command to its end."""
    done = subprocess.run(
        [*FOREBAY, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment(env),
        cwd=cwd,
        timeout=SLOW_S,
        check=False,
    )
    return Answer(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())


def invoked(*arguments: object) -> Answer:
    """Run one command in this process."""
    from forebay.cli.main import app

    done = typer.testing.CliRunner().invoke(app, [*map(str, arguments)])
    return Answer(done.exit_code, done.stdout, done.stderr)


def refused(answer: Answer, code: int, *parts: str) -> None:
    """Assert that a command said in one sentence what is wrong and what to do, and ended so."""
    assert answer.code == code, answer
    assert "Traceback" not in answer.stderr
    for part in parts:
        assert part in answer.sentence


def wait_for(look: Callable[[], T | None], what: str, seconds: float = SLOW_S) -> T:
    """Look again and again until there is something; answer it."""

    async def looked() -> T | None:
        return look()

    return asyncio.run(until(SystemClock(), looked, what, seconds))


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ----------------------------------------------------------------- simulator


@dataclass(frozen=True, slots=True)
class Lab:
    """A running simulator."""

    process: subprocess.Popen[bytes]
    ws_url: str
    rest_url: str
    truth_url: str

    @property
    def flags(self) -> tuple[str, ...]:
        """What points a capture to it."""
        return ("--ws-url", self.ws_url, "--rest-url", self.rest_url)


@contextlib.contextmanager
def process(
    *arguments: object, env: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run one command while the context is open; its stdout can be read, stderr goes to ``log``."""
    with contextlib.ExitStack() as stack:
        errors: Any = subprocess.DEVNULL if log is None else stack.enter_context(log.open("ab"))
        child = stack.enter_context(
            subprocess.Popen(
                [*FOREBAY, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(env),
            )
        )
        try:
            yield child
        finally:
            ended(child)


def ended(
    child: subprocess.Popen[bytes], number: int = signal.SIGTERM, *, seconds: float = STOP_S
) -> int:
    """Stop a process with a signal and answer its exit code."""
    if child.poll() is None:
        child.send_signal(number)
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise


@contextlib.contextmanager
def simulator(*arguments: object, seed: int = 1) -> Iterator[Lab]:
    """Run a simulated Coinbase while the context is open."""
    with process("lab", "serve", "coinbase", "--seed", seed, *arguments) as child:
        assert child.stdout is not None
        urls = json.loads(child.stdout.readline())
        yield Lab(child, urls["ws_url"], urls["rest_url"], urls["truth_url"])


# ------------------------------------------------------------------- capture


@dataclass(frozen=True, slots=True)
class Running:
    """A running capture: its supervisor, its folder and what it says."""

    process: subprocess.Popen[bytes]
    folder: DataFolder
    log: Path

    def told(self) -> dict[str, dict[str, Any]] | None:
        """What capture and deliver say of themselves, None while one does not answer."""
        found = statuses(self.folder)
        return {role: said for role, said in found.items() if said} if all(found.values()) else None

    def until(
        self, holds: Callable[[dict[str, dict[str, Any]]], bool], what: str, seconds: float = SLOW_S
    ) -> dict[str, dict[str, Any]]:
        """Wait until ``holds`` of what the processes say."""

        def look() -> dict[str, dict[str, Any]] | None:
            told = self.told()
            return told if told and holds(told) else None

        return wait_for(look, f"{what} (log: {self.log})", seconds)

    def captured(self, frames: int) -> dict[str, dict[str, Any]]:
        """Wait until so many frames were captured since the start."""
        return self.until(
            lambda told: told["capture"]["captured"] >= frames, f"{frames} captured frames"
        )

    def capture_status(self, *, reset_latency: bool = False) -> dict[str, Any]:
        """What capture says of itself; its latencies begin anew if told so."""
        request = {"op": "status", "reset_latency": reset_latency}
        return ask(self.folder.capture_socket, request)[0]

    def stop(self) -> int:
        """Ask it to finish its work; answer its exit code."""
        return ended(self.process)


@contextlib.contextmanager
def capture(
    data: Path,
    *flags: str,
    symbols: str = "BTC-USD,ETH-USD",
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    file: Path | None = None,
) -> Iterator[Running]:
    """Run a capture of Coinbase into ``data`` while the context is open; HTTP on a free port.

    With a configuration ``file`` it is what that says.
    """
    env = {"FOREBAY_HTTP__PORT": "0", **(env or {})}
    lines = log or data.with_name(f"{data.name}.log")
    venue = ("-c", file) if file else ("--venue", "coinbase", "--symbols", symbols)
    with process("run", *venue, "--data", data, *flags, env=env, log=lines) as child:
        yield Running(child, DataFolder(data), lines)


def connected(running: Running) -> dict[str, dict[str, Any]]:
    """Wait until a capture has a subscription."""
    return running.until(lambda told: told["capture"]["connected"] > 0, "a subscription")


def said(log: Path, event: str) -> list[dict[str, Any]]:
    """Answer the log lines of one kind of happening."""
    lines = log.read_text().splitlines()
    documents = [json.loads(line) for line in lines if line.startswith("{")]
    return [document for document in documents if document.get("event") == event]
