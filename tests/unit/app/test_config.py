"""Configuration: precedence, origins, and complaints that say what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from forebay.app.wiring import venues
from forebay.app.wiring.complaints import ConfigErrors
from forebay.app.wiring.config import Config, HttpConfig, VenueConfig, leaves, load, token_of
from forebay.app.wiring.config_template import tables, template
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "forebay.toml"
    path.write_text(text)
    return path


def complaint(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as raised:
        load(file(tmp_path, text), {}, environment or {})
    assert raised.value.hint
    return str(raised.value)


def test_without_anything_there_are_defaults() -> None:
    config, origins = load(None, {}, {})

    assert config == Config()
    assert set(origins.values()) == {"default"}


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    path = file(tmp_path, 'data = "f"\ncollector = "f"\nlog_level = "error"\n')
    environment = {"FOREBAY_DATA": "e", "FOREBAY_COLLECTOR": "e"}

    config, origins = load(path, {"data": "flag", "collector": None}, environment)

    assert (config.data, config.collector, config.log_level) == ("flag", "e", "error")
    assert origins["data"] == "the command line"
    assert origins["collector"] == "the environment"
    assert origins["log_level"] == str(path)
    assert origins["journal.linger_ms"] == "default"


def test_nested_keys_of_the_environment(tmp_path: Path) -> None:
    path = file(tmp_path, "[journal]\nlinger_ms = 3\nsegment_mb = 8\n")
    environment = {
        "FOREBAY_JOURNAL__LINGER_MS": "7.5",
        "FOREBAY_FILL__ENABLED": "false",
        "FOREBAY_VENUES": '[{"name": "coinbase", "symbols": ["BTC-USD"]}]',
    }

    config, _ = load(path, {}, environment)

    assert (config.journal.linger_ms, config.journal.segment_mb) == (7.5, 8)
    assert config.fill.enabled is False
    assert config.venues[0].symbols == ("BTC-USD",)


def test_names_of_other_deployments_are_understood() -> None:
    config, origins = load(None, {}, {"DATA_DIR": "/srv/x", "LOG_LEVEL": "WARNING"})

    assert (config.data, config.log_level) == ("/srv/x", "warning")
    assert origins["data"] == "the environment"
    assert load(None, {}, {"DATA_DIR": "a", "FOREBAY_DATA": "b"})[0].data == "b"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("jurnal = 1", "There is no key 'jurnal'"),
        ("[journal]\nlingerms = 1", "There is no key 'journal.lingerms'"),
        ("[journal]\nlingerms = 1", "Did you mean 'linger_ms'?"),
        ('[[venues]]\nname = "coinbase"\nsymbol = ["A-B"]', "Did you mean 'symbols'?"),
        ('[[venues]]\nname = "coinbase"', "'venues[0].symbols' is missing"),
        ('[transports]\nkind = "kafka"', "Write [[transports]]: there may be several."),
        ("[journal]\nlinger_ms = -1", "The value of 'journal.linger_ms'"),
        ('[journal]\nsegment_mb = "many"', "The value of 'journal.segment_mb'"),
        ('log_level = "loud"', "The value of 'log_level'"),
        ("data = 3 3", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    told = complaint(tmp_path, text)

    assert says in told
    assert "forebay.toml" in told
    assert "\n" not in told


MUCH = """
jurnal = 1
log_level = "loud"
retain = "7d"
[journal]
lingerms = 1
segment_mb = "many"
retain_gb = -1
[http]
port = 99999
[resilience]
critical = [1]
[[venues]]
nam = "coinbase"
depth = 0
[[venues]]
name = "coinbase"
symbols = []
ws_url = 3
"""


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    environment = {
        "FOREBAY_DATA": "x",
        "FOREBAY_DATA__Y": "1",
        "FOREBAY_QUERY": "{",
        "FOREBAY_FILL__POLL_S": "often",
    }
    with pytest.raises(ConfigErrors) as raised:
        load(file(tmp_path, MUCH), {}, environment)
    told = [error.message.split("'")[1] for error in raised.value.errors if "'" in error.message]
    assert sorted(told) == [
        "data",
        "fill.poll_s",
        "http.port",
        "journal.lingerms",
        "journal.retain_gb",
        "journal.segment_mb",
        "jurnal",
        "log_level",
        "resilience.critical[0]",
        "retain",
        "venues[0].depth",
        "venues[0].nam",
        "venues[0].symbols",
        "venues[1].symbols",
        "venues[1].ws_url",
    ]
    assert len(raised.value.errors) == len(told) + 1  # the variable that is no JSON
    assert all(error.hint for error in raised.value.errors)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('retain = "7d"', "Did you mean 'journal.retain'? It belongs in the table [journal]."),
        ("token_file = 'x'", "Did you mean 'http.token_file'?"),
        ("[http]\nretain = '7d'", "`forebay init`"),
        ("failure_threshold = 3", "Did you mean 'resilience.store.failure_threshold'?"),
    ],
)
def test_a_key_that_belongs_in_a_table_is_told_so(tmp_path: Path, text: str, hint: str) -> None:
    assert hint in complaint(tmp_path, text)


def test_a_wrong_variable_names_the_environment(tmp_path: Path) -> None:
    assert "the environment" in complaint(tmp_path, "", {"FOREBAY_JOURNAL__LINGER_MS": "quick"})
    assert "FOREBAY_VENUES" in complaint(tmp_path, "", {"FOREBAY_VENUES": "[{"})


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="forebay init"):
        load(tmp_path / "none.toml", {}, {})


def test_the_template_is_the_defaults_and_one_example(tmp_path: Path) -> None:
    config, _ = load(file(tmp_path, template()), {}, {})
    told, defaults = dict(leaves(config)), dict(leaves(Config()))

    assert {key for key in told if told[key] != defaults[key]} == {"venues"}


def test_whatever_the_template_shows_behind_a_mark_can_be_said(tmp_path: Path) -> None:
    lines = [re.sub(r"^# (?=\[|\w+ = )", "", line) for line in template().splitlines()]
    config, origins = load(file(tmp_path, "\n".join(lines)), {}, {})

    assert {key for key, layer in origins.items() if layer == "default"} == {
        "resilience.store.timeout_s",
        "resilience.clickhouse_bridge.timeout_s",
        "resilience.rest.timeout_s",
        "resilience.websocket.timeout_s",
        "resilience.transport.timeout_s",
    }
    assert all(getattr(config.venues[0], name) for name in VenueConfig.__struct_fields__)


def test_every_key_says_what_it_means_and_its_line_fits_a_terminal() -> None:
    assert all(key.meaning for table in tables() for key in table.keys)
    assert max(map(len, template().splitlines())) <= 80


def test_the_way_to_a_child_process_and_back() -> None:
    config, _ = load(None, {"venues": [{"name": "coinbase", "symbols": ["A-B"]}]}, {})

    line = config.encode()

    assert b"\n" not in line
    assert Config.decode(line) == config


@pytest.mark.parametrize(
    "environment",
    [
        {"FOREBAY_DATA": "x", "FOREBAY_DATA__Y": "1"},
        {"FOREBAY_DATA__Y": "1", "FOREBAY_DATA": "x"},
        {"DATA_DIR": "x", "FOREBAY_DATA__Y": "1"},
        {"FOREBAY_VENUES": "[]", "FOREBAY_VENUES__Y": "1"},
    ],
)
def test_a_value_and_a_key_below_it_contradict(tmp_path: Path, environment: dict[str, str]) -> None:
    assert "__Y sets a key of" in complaint(tmp_path, "", environment)


def test_a_table_as_json_and_a_key_of_it_go_together() -> None:
    environment = {"FOREBAY_JOURNAL__SEGMENT_MB": "8", "FOREBAY_JOURNAL": '{"linger_ms": 3}'}

    config, _ = load(None, {}, environment)

    assert (config.journal.linger_ms, config.journal.segment_mb) == (3, 8)


@pytest.mark.parametrize(
    "text", ['"7"', '"7d\\n"', '"7 days"', '"-1d"', '"1.5d"', '"d"', '""', "7", '"0d"']
)
def test_how_long_frames_are_kept_is_strict_and_says_how_to_write_it(
    tmp_path: Path, text: str
) -> None:
    told = complaint(tmp_path, f"[journal]\nretain = {text}")

    assert "The value of 'journal.retain'" in told
    assert "forebay.toml" in told
    assert '"12h" or "7d"' in told


def test_how_long_frames_are_kept(tmp_path: Path) -> None:
    path = file(tmp_path, '[journal]\nretain = "12h"\nretain_gb = 0.5')

    config, _ = load(path, {}, {"FOREBAY_JOURNAL__RETAIN": "0"})

    assert (config.journal.retain, config.journal.retain_gb) == ("0", 0.5)
    assert "retain_gb" in complaint(tmp_path, "[journal]\nretain_gb = 0")
    assert load(None, {}, {})[0].journal.retain_gb is None


def test_a_byte_order_mark_is_no_part_of_what_is_written(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    file, token, secrets = (tmp_path / name for name in ("forebay.toml", "token", "secrets.toml"))
    file.write_bytes(mark + b'collector = "c"\n')
    token.write_bytes(mark + b"word\n")
    secrets.write_bytes(mark + b'key = "k"\n')
    venue = VenueConfig(name="coinbase", symbols=("A-B",), credentials_file=str(secrets))

    assert load(file, {}, {})[0].collector == "c"
    assert token_of(HttpConfig(token_file=str(token))) == "word"
    assert venues.credentials(venue) == {"key": "k"}


def test_one_variable_sets_every_breaker_of_clickhouse() -> None:
    said = {"CLICKHOUSE_CIRCUIT_BREAKER_THRESHOLD": "9"}
    config, origins = load(None, {}, said)
    assert config.resilience.clickhouse.failure_threshold == 9
    assert config.resilience.clickhouse_bridge.failure_threshold == 9
    assert config.resilience.store.failure_threshold is None
    assert origins["resilience.clickhouse.failure_threshold"] == "the environment"
