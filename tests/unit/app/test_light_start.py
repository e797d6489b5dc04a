"""A process brings only what it needs: after a kill it is back the sooner."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("numpy", "pyarrow", "duckdb", "aiohttp.web", "pydantic", "prometheus_client")


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("forebay.app.processes.capture_process", set()),
        ("forebay.app.processes.supervisor", set()),
        ("forebay.app.processes.deliver_process", {"numpy", "pyarrow"}),
        ("forebay.resilience", set()),
    ],
)
def test_what_a_process_imports(module: str, allowed: set[str]) -> None:
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert set(json.loads(done.stdout)) & set(HEAVY) == allowed


def test_a_child_leaves_rich_alone() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "forebay.app.processes.worker", "capture"]
    done = subprocess.run(command, input=b"no configuration\n", capture_output=True, check=False)
    imported = {line.rpartition(b"|")[2].strip() for line in done.stderr.splitlines()}
    assert b"structlog" in imported
    assert not {name for name in imported if name.startswith(b"rich.")}
