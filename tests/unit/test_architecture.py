"""The shape of the source: what import-linter and ruff cannot say, and proof that they can fail.

The import contracts themselves are in ``pyproject.toml`` and are checked by ``make lint``; here
each one is broken once in a copy of the package, to show that it would notice.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "forebay"
SOURCES = sorted(PACKAGE.rglob("*.py"))
SHELLS = {"rest", "websocket"}
FILE_LINES = 400
WHOLE_LINES = 700
WHOLE = {"telemetry.py"}
"""Files whose halves would only be read together."""
FUNCTION_LINES = 50
QUEUES = {"Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"}
FLOATS = {"float", "float16", "float32", "float64"}

ORDER = "A part knows only what lies below it, and nothing of its neighbours"
PURE = "The domain and every venue's protocol do no I/O, keep no time and roll no dice"

STRANGE = "Transports are strangers to one another"

# One offence against every contract: the file that commits it, the line, the contract's sentence.
# No offence may break a second contract by the way, or that one's own is not shown to count.
OFFENCES = [
    ("resilience/backoff.py", "import forebay.services", ORDER),
    ("domain/frames.py", "import socket", PURE),
    ("journal/__init__.py", "import forebay.domain.frames", "The journal knows nothing of markets"),
    (
        "stores/__init__.py",
        "import asyncio",
        "The journal, stores and transports block, and leave the event loop to their callers",
    ),
    (
        "sources/websocket/__init__.py",
        "import forebay.sources.coinbase.protocol",
        "What is generic in the sources knows no venue",
    ),
    (
        "sources/history.py",
        "import forebay.sources.polls",
        "A connection shell knows only what lies below it",
    ),
    (
        "stores/kind.py",
        "import forebay.stores.duckdb.ddl",
        "Stores are strangers to one another",
    ),
    ("transports/kafka/errors.py", "import forebay.transports.nats.streams", STRANGE),
    (
        "lab/truth.py",
        "import forebay.domain.frames",
        "A simulator and its truth share nothing with the code they are there to test",
    ),
    (
        "services/__init__.py",
        "import http.client",
        "Services are given whom they ask, and speak to nobody over a network themselves",
    ),
    ("services/__init__.py", "from time import time", "Only forebay.clock asks the time"),
    ("services/__init__.py", "import duckdb", "DuckDB has one home, the DuckDB store"),
    (
        "services/__init__.py",
        "import confluent_kafka",
        "Kafka's client has one home, its transport; a launcher asks whether its nodes are there",
    ),
    (
        "services/__init__.py",
        "import nats",
        "The client of NATS has one home, its transport",
    ),
    (
        "services/__init__.py",
        "import clickhouse_connect",
        (
            "ClickHouse's client has one home, its store; "
            "what stands in for the server reads its bodies"
        ),
    ),
    (
        "stores/__init__.py",
        "import chdb",
        "ClickHouse's engine is a server to all but what serves it",
    ),
    (
        "services/__init__.py",
        "import picows",
        "picows has one home, the websocket shell; simulators serve with it",
    ),
    (
        "services/__init__.py",
        "from aiohttp import web",
        "aiohttp has two homes, the REST shell and the HTTP server; simulators serve with it",
    ),
    (
        "services/__init__.py",
        "import prometheus_client",
        "The metrics client has one home, what people look at",
    ),
    (
        "services/__init__.py",
        "import rich.table",
        "typer and rich have one home, the command line",
    ),
    (
        "services/__init__.py",
        "import structlog",
        "Log rendering has one home, the application",
    ),
    (
        "services/__init__.py",
        "import exchange_calendars",
        "The library of exchanges' calendars has one home, the wiring of calendars",
    ),
    ("lab/__init__.py", "import ccxt", "What only the tests need is not in the package"),
]


# ------------------------------------------------------------- rules over the syntax tree


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def long_functions(tree: ast.AST) -> Iterator[str]:
    """Functions of more than ``FUNCTION_LINES`` lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = _length(node)
            if lines > FUNCTION_LINES:
                yield f"{node.name} has {lines} lines"


def unbounded_queues(tree: ast.AST) -> Iterator[str]:
    """Queues made without a bound: memory that an outage fills."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        # `asyncio.Queue[int](…)` and `asyncio.Queue(…)` are the same maker.
        maker = node.func.value if isinstance(node.func, ast.Subscript) else node.func
        name = getattr(maker, "attr", getattr(maker, "id", ""))
        bounds = [*node.args, *(k.value for k in node.keywords if k.arg == "maxsize")]
        unbounded = not bounds or (isinstance(bounds[0], ast.Constant) and bounds[0].value == 0)
        if name in QUEUES and unbounded:
            yield f"line {node.lineno}: {name} without a bound"


def binary_floats(tree: ast.AST) -> Iterator[str]:
    """Mentions of binary floating point types."""
    for node in ast.walk(tree):
        name = getattr(node, "attr", getattr(node, "id", ""))
        if isinstance(node, ast.Name | ast.Attribute) and name in FLOATS:
            yield f"line {node.lineno}: {name}"


def _offenders(rule: Callable[[ast.AST], Iterator[str]], where: Iterable[Path]) -> dict[str, str]:
    """What ``rule`` finds, by the file's path in the package."""
    found = {}
    for path in where:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        if offences := list(rule(tree)):
            found[str(path.relative_to(PACKAGE))] = "; ".join(offences)
    return found


def test_a_file_fits_into_a_head() -> None:
    assert SOURCES
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    most = {path: WHOLE_LINES if path.name in WHOLE else FILE_LINES for path in SOURCES}
    assert [path.name for path in SOURCES if lines[path] > most[path]] == []


def test_a_function_fits_onto_a_screen() -> None:
    assert _offenders(long_functions, SOURCES) == {}


def test_no_queue_is_unbounded() -> None:
    assert _offenders(unbounded_queues, SOURCES) == {}


def test_no_price_can_become_a_binary_float() -> None:
    exact = [*(PACKAGE / "domain").rglob("*.py"), *(PACKAGE / "sources").rglob("protocol.py")]
    assert len(exact) > 1
    assert _offenders(binary_floats, exact) == {}


def venue_folders() -> list[Path]:
    folders = {path.parent for path in (PACKAGE / "sources").glob("*/*.py")}
    return sorted(folder for folder in folders if folder.name not in SHELLS)


def test_every_venue_has_the_same_files() -> None:
    assert venue_folders()
    for venue in venue_folders():
        names = {path.name for path in venue.glob("*.py")}
        assert {"__init__.py", "protocol.py", "connector.py", "instruments.py"} <= names, venue.name
        assert "VENUE = Venue(" in (venue / "__init__.py").read_text(encoding="utf-8")


def strangers(venue: str, others: Iterable[str]) -> Callable[[ast.AST], Iterator[str]]:
    """Imports of other venues."""

    def found(tree: ast.AST) -> Iterator[str]:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            module = getattr(node, "module", None) or ""
            for alias in node.names:
                name = f"{module}.{alias.name}"
                if any(f"sources.{other}" in name for other in others if other != venue):
                    yield name

    return found


def test_venues_are_strangers_to_one_another() -> None:
    names = [folder.name for folder in venue_folders()]
    for folder in venue_folders():
        assert _offenders(strangers(folder.name, names), sorted(folder.rglob("*.py"))) == {}


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("from forebay.sources.kraken.protocol import x", True),
        ("from forebay.sources import kraken", True),
        ("import forebay.sources.kraken", True),
        ("from forebay.sources.coinbase import protocol", False),
        ("from forebay.sources.venue import Venue", False),
    ],
)
def test_an_import_of_another_venue_is_seen(code: str, seen: bool) -> None:
    found = strangers("coinbase", ["coinbase", "kraken"])(ast.parse(code))
    assert bool(list(found)) is seen


def test_unit_tests_mirror_the_package() -> None:
    for folder in (ROOT / "tests" / "unit").rglob("*"):
        if folder.is_dir() and any(folder.glob("test_*.py")):
            assert (PACKAGE / folder.relative_to(ROOT / "tests" / "unit")).is_dir(), folder.name


# ------------------------------------------------------------- the rules can fail


def test_long_functions_are_seen_without_their_docstrings() -> None:
    body = "\n".join("    x = 1" for _ in range(FUNCTION_LINES))
    assert list(long_functions(ast.parse(f"def f():\n{body}"))) == ["f has 51 lines"]
    fits = "\n".join(body.splitlines()[1:])
    assert (
        list(long_functions(ast.parse(f'def f():\n    """One.\n\n    Two.\n    """\n{fits}'))) == []
    )


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("asyncio.Queue()", True),
        ("asyncio.Queue[int]()", True),
        ("queue.Queue(0)", True),
        ("Queue(maxsize=0)", True),
        ("queue.SimpleQueue()", True),
        ("asyncio.Queue(8)", False),
        ("asyncio.Queue[int](maxsize=bound)", False),
        ("deque()", False),
    ],
)
def test_unbounded_queues_are_seen(code: str, seen: bool) -> None:
    assert bool(list(unbounded_queues(ast.parse(code)))) is seen


@pytest.mark.parametrize(
    ("code", "seen"),
    [("price: float = x", True), ("pa.float64()", True), ("Decimal(text)", False)],
)
def test_binary_floats_are_seen(code: str, seen: bool) -> None:
    assert bool(list(binary_floats(ast.parse(code)))) is seen


def _lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = "from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _verdicts(output: str) -> dict[str, str]:
    return dict(re.findall(r"^(\S.*) (KEPT|BROKEN)(?: \(.*\))?$", output, re.MULTILINE))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contracts, to be spoiled."""
    shutil.copytree(PACKAGE, tmp_path / "src" / "forebay")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _contracts() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {contract["name"] for contract in project["tool"]["importlinter"]["contracts"]}


def test_every_contract_is_kept(copy: Path) -> None:
    result = _lint_imports(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert _verdicts(result.stdout) == dict.fromkeys(_contracts(), "KEPT")


def test_every_contract_notices_an_offence(copy: Path) -> None:
    for name, line, _ in OFFENCES:
        with (copy / "src" / "forebay" / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    result = _lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert {sentence for *_, sentence in OFFENCES} == _contracts()
    assert _verdicts(result.stdout) == dict.fromkeys(_contracts(), "BROKEN")


def test_a_new_part_must_take_its_place_in_the_order(copy: Path) -> None:
    (copy / "src" / "forebay" / "misc.py").write_text('"""Anything."""\n', encoding="utf-8")
    result = _lint_imports(copy)
    assert "- forebay.misc" in result.stdout
    assert _verdicts(result.stdout)[ORDER] == "BROKEN"


def test_an_import_for_types_alone_is_free(copy: Path) -> None:
    with (copy / "src" / "forebay" / "domain" / "frames.py").open("a", encoding="utf-8") as file:
        file.write("\nif TYPE_CHECKING:\n    import socket\n")
    assert _verdicts(_lint_imports(copy).stdout)[PURE] == "KEPT"
