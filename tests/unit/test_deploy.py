"""What is deployed: the files of ``deploy/`` agree with one another and with the program."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from forebay.app.processes.supervisor import STOP_S
from forebay.app.wiring.config import load
from forebay.ops.alerts import text
from tests.support.servers import needed

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
OURS = ("capture", "bridge")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|KEY")


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return found


def test_each_of_our_services_is_looked_at_and_has_the_time_to_end_its_work() -> None:
    services = compose()["services"]
    for name in OURS:
        check = services[name]["healthcheck"]
        assert "/health/live" in check["test"][-1]
        named = {key: value for key, value in check.items() if key != "test"}
        assert named == {"interval": "30s", "timeout": "10s", "start_period": "10s", "retries": 3}
        grace_s = int(services[name]["stop_grace_period"].removesuffix("s"))
        assert grace_s > STOP_S["capture"] + STOP_S["deliver"]
    for name, service in services.items():
        assert "healthcheck" in service, name
        assert service["restart"] == "unless-stopped", name
        assert service.get("volumes"), name


def test_no_secret_stands_in_a_file_of_the_repository() -> None:
    described = compose()
    for name, service in described["services"].items():
        for key in service.get("environment", {}):
            assert not SECRET.search(key) or key.endswith("_FILE"), (name, key)
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for secret in described["secrets"].values():
        assert secret["file"] in readme
    assert (DEPLOY / "secrets" / ".gitignore").read_text(encoding="utf-8").startswith("*\n")


def test_what_the_services_are_given_is_there_and_can_be_read() -> None:
    for config in compose()["configs"].values():
        file = DEPLOY / config["file"]
        assert file.is_file()
        if file.suffix == ".xml":
            assert ET.parse(file).getroot().tag == "clickhouse"  # noqa: S314 - our own
        elif file.suffix in (".yml", ".yaml"):
            assert yaml.safe_load(file.read_text(encoding="utf-8"))


def test_the_configurations_are_sound_and_reach_the_services_by_their_names() -> None:
    services = compose()["services"]
    for name in OURS:
        config, _ = load(DEPLOY / f"{name}.toml", {}, {})
        assert config.http.host == "0.0.0.0"
        hosts = [each.servers.partition(":")[0] for each in config.transports]
        hosts += re.findall(r"//([^:/]+)", config.bridge.store.url)
        assert hosts
        assert {*hosts} <= {*services}
        given = {each["target"] for each in services[name].get("secrets", [])}
        if config.bridge.transport:
            assert given == {Path(config.bridge.store.credentials_file).name}
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
    for job in scraped["scrape_configs"]:
        assert job["job_name"].startswith("forebay")
        (target,) = job["static_configs"][0]["targets"]
        assert target.partition(":")[0] in OURS


def test_the_rules_are_those_that_the_program_prints() -> None:
    assert (DEPLOY / "forebay.rules.yml").read_text(encoding="utf-8") == text(), (
        "run: python -m tests.support.reference_pages"
    )


@pytest.mark.parametrize("wrong", ["", "    helathcheck: {}\n"])
def test_the_reference_parser_of_compose_files_takes_it_and_refuses_a_wrong_key(
    tmp_path: Path, wrong: str
) -> None:
    if shutil.which("go") is None and shutil.which("compose-go") is None:
        pytest.skip("no Go here, with which the parser is made")
    parser, changed = needed("compose-go"), tmp_path / "compose.yaml"
    whole = COMPOSE.read_text(encoding="utf-8")
    changed.write_text(whole.replace("  nats:\n    image", f"  nats:\n{wrong}    image"))
    done = subprocess.run([parser, changed], capture_output=True, check=False, timeout=60)
    assert (done.returncode != 0) is bool(wrong), done.stderr
