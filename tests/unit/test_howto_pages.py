"""What the pages tell to type, to set and to look at exists."""

from __future__ import annotations

import builtins
import dataclasses
import json
import keyword
import re
import shlex
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import typer

from forebay import resilience
from forebay.app.processes.process_breakers import LIVE
from forebay.app.processes.supervisor import STOP_S
from forebay.app.wiring.config import Config, all_leaves, load
from forebay.app.wiring.config_layers import FILE_VARIABLE
from forebay.cli.main import app as commands
from forebay.errors import Unreachable
from forebay.lab.servers import find
from forebay.ops import alerts
from forebay.ops.catalogue import CATALOGUE
from forebay.ops.schema import ConfigureBody, RecoverBody, RequestBody
from forebay.ops.view import Action
from tests.support.fake_system import Site
from tests.support.pages import ROOT, blocks, page, prose, table, ticked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPERATE, COMING, EXPLAINED = (
    page(name) for name in ("how-to/operate", "how-to/coming-from", "explanation/resilience")
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = prose(OPERATE) + prose(EXPLAINED)
WORD = re.compile(r"[A-Za-z_]\w*")

BODIES: dict[str, type[RequestBody]] = {"config": ConfigureBody, "force-recovery": RecoverBody}

# ------------------------------------------------------------------------- commands


def lines(text: str) -> Iterator[list[str]]:
    """What is typed in the blocks of a page, as words; a comment is left out."""
    for block in blocks(text, "console"):
        for typed in re.findall(r"^\$ (.+(?:\n    .+)*)", block, re.MULTILINE):
            yield shlex.split(typed.replace("\\\n", " "), comments=True)


def invocations() -> list[list[str]]:
    """Every command of ours on the pages, up to what the shell does with it."""
    inline = re.findall(r"`forebay ([a-z][^`]*)`", OPERATE)
    found = [shlex.split(text) for text in inline]
    pages = (page(name) for name in ("tutorial/first-capture", "how-to/prediction-markets"))
    for text in (OPERATE, README, *pages):
        for words in lines(text):
            starts = [at for at, word in enumerate(words) if word == "forebay"]
            for start in starts if words[0] != "kill" else []:
                rest = words[start + 1 :]
                ends = [at for at, word in enumerate(rest) if word in {">", "&&"}]
                found.append(rest[: min(ends, default=len(rest))])
    return found


@pytest.mark.parametrize("words", invocations(), ids=" ".join)
def test_a_command_of_ours_is_understood(words: list[str]) -> None:
    command: Any = typer.main.get_command(commands)
    context = command.make_context("forebay", [], resilient_parsing=True)
    rest = list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    context = command.make_context(command.name, rest, parent=context)
    assert not context.args


# --------------------------------------------------------------------------- routes


def routes() -> dict[str, set[str]]:
    """Paths of the application, with a place for each name, and their methods."""
    found: dict[str, set[str]] = {}
    for route in Site().routes.routes:
        found.setdefault(route.path, set()).add(route.method)
    return found


def asked() -> list[tuple[str, str, dict[str, Any] | None]]:
    """Method, path and body of each call of administration on the page."""
    found = []
    for words in lines(OPERATE):
        if words[0] != "admin" or words[1] == "()":
            continue
        body = json.loads(words[words.index("--json") + 1]) if "--json" in words else None
        method = (
            words[words.index("-X") + 1] if "-X" in words else "GET" if body is None else "POST"
        )
        found.append((method, words[-1].replace("$at", "/admin"), body))
    return found


def test_each_call_of_administration_has_a_route_and_a_body_that_it_takes() -> None:
    calls = asked()
    assert len(calls) >= 7
    verbs = set()
    for method, path, body in calls:
        (route,) = [
            known
            for known, methods in routes().items()
            if method in methods and re.fullmatch(re.sub(r"\{.*?\}", "[a-z-]+", known), path)
        ]
        verb = route.rpartition("/")[2]
        verbs.add(verb)
        assert body is None or msgspec.convert(body, BODIES.get(verb, RequestBody))
    told = {ticked(row[0])[0] for row in table(OPERATE, "command", "does")}
    assert told == verbs == {str(action) for action in Action} - {"configure"} | {"config"}


def test_each_path_on_the_pages_is_a_route() -> None:
    told = {text for text in ticked(PROSE) if re.fullmatch(r"/[a-z/]+", text)}
    told |= set(re.findall(r"(?:8080|path: )(/[a-z/]+)", OPERATE)) - {"/admin"}
    assert {"/health/live", "/health/ready", "/health", "/metrics"} <= told
    assert told <= routes().keys()


def test_only_liveness_may_restart() -> None:
    (container,) = blocks(OPERATE, "dockerfile")
    assert re.findall(r"/health[a-z/]*", container) == ["/health/live"]
    cluster = blocks(OPERATE, "yaml")[0]
    probes = dict(re.findall(r"(\w+)Probe:\n +httpGet: \{path: (\S+),", cluster))
    assert probes == {
        "startup": "/health/live", "liveness": "/health/live", "readiness": "/health/ready",
    }  # fmt: skip
    (grace,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", cluster)
    assert int(grace) > sum(STOP_S.values()), "or a pod is killed while it stores"


# -------------------------------------------------------------------- configuration


def test_what_may_change_while_it_runs_is_what_the_page_says() -> None:
    told = {key.removesuffix("*") for row in table(OPERATE, "key", "") for key in ticked(row[0])}
    assert told == set(LIVE)


def test_keys_and_variables_exist() -> None:
    for block in blocks(OPERATE + page("how-to/publish"), "toml"):
        msgspec.convert(tomllib.loads(block), Config)
    keys = {key for key, _ in all_leaves(Config())}
    tables = {".".join(key.split(".")[: n + 1]) for key in keys for n in range(key.count("."))}
    dotted = [text for text in ticked(PROSE) if re.fullmatch(r"[a-z]+\.[a-z_.]+", text)]
    told = {text for text in dotted if text.partition(".")[0] in tables}
    assert {"http.host", "resilience.recovery_hold_s", "resilience.critical"} <= told
    assert told <= keys | tables
    variables = set(re.findall(r"FOREBAY_\w+", OPERATE)) - {FILE_VARIABLE}
    assert len(variables) == 4
    for name in variables:
        found, origins = load(None, {}, {name: "0.0.0.0"})
        assert "the environment" in origins.values(), name
        assert found != Config()


# ------------------------------------------------------------- what there is to see


def test_metrics_exist() -> None:
    told = {ticked(row[0])[0] for row in table(OPERATE, "metric", "is")}
    exposed = {metric.exposed for metric in CATALOGUE.values()}
    assert told <= exposed
    (grepped,) = re.findall(r"grep -E '\^\((.*?)\)'", OPERATE)
    assert set(grepped.split("|")) <= exposed


def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    try:
        promtool = find("promtool")
    except Unreachable as missing:
        pytest.skip(str(missing))
    (config,) = [block for block in blocks(OPERATE, "yaml") if "scrape_configs" in block]
    (tmp_path / "prometheus.yml").write_text(config)
    (tmp_path / "forebay.rules.yml").write_text(alerts.text())
    done = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------ our names


def names() -> set[str]:
    """Everything public of the package: names, their members, fields and parameters."""
    found = set(resilience.__all__)
    for name in resilience.__all__:
        each = getattr(resilience, name)
        if isinstance(each, type):
            members = [member for member in dir(each) if not member.startswith("_")]
            found |= set(members)
            for member in ("__init__", *members):
                found |= set(getattr(getattr(each, member), "__annotations__", ()))
            if dataclasses.is_dataclass(each):
                found |= {field.name for field in dataclasses.fields(each)}
        else:
            found |= set(getattr(each, "__annotations__", ()))
    return found


KNOWN = names() | {*dir(builtins), *keyword.kwlist}
OURS = {"reason", "event", "wait", "f", "breaker", "degraded"}
"""What the reader's own things are called in examples."""


def translations() -> list[tuple[str, str]]:
    return [
        (row[0], row[1])
        for name in ("pybreaker", "tenacity", "resilience4j", "Polly")
        for row in table(
            COMING.partition(f"\n## {name}\n")[2].partition("\n## ")[0], "there", "here"
        )
    ]


@pytest.mark.parametrize(("there", "here"), translations())
def test_a_translation_names_what_there_is(there: str, here: str) -> None:
    assert there
    words = {word for text in ticked(here) for word in WORD.findall(text)}
    assert words <= KNOWN | OURS, words - KNOWN - OURS
