"""Which changes hold at once; nothing else changes."""

from __future__ import annotations

import msgspec
import pytest

from forebay.app.processes.process_breakers import reconciled
from forebay.app.wiring.config import Config, all_leaves, leaves

RUNNING = msgspec.convert(
    {"venues": [{"name": "coinbase", "symbols": ["BTC-USD"]}], "data": "here"}, Config
)


def changed(**tables: object) -> Config:
    tree = msgspec.to_builtins(RUNNING)
    for table, value in tables.items():
        if isinstance(value, dict):
            tree[table] = msgspec.to_builtins(
                {**tree[table], **value} if isinstance(tree[table], dict) else value
            )
        else:
            tree[table] = value
    return msgspec.convert(tree, Config)


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        (changed(log_level="debug"), "log_level"),
        (changed(resilience={"check_interval_s": 3.0}), "resilience.check_interval_s"),
        (changed(resilience={"auto_recovery": False}), "resilience.auto_recovery"),
        (changed(resilience={"critical": ["coinbase-rest"]}), "resilience.critical"),
        (
            changed(resilience={"store": {"recovery_timeout_s": 7.0}}),
            "resilience.store.recovery_timeout_s",
        ),
        (changed(http={"token_file": "x"}), "http.token_file"),
        (changed(http={"token": "long"}), "http.token"),
        (changed(journal={"retain": "1h"}), "journal.retain"),
        (changed(journal={"retain_gb": 3.0}), "journal.retain_gb"),
        (changed(query={"timeout_s": 5.0}), "query.timeout_s"),
    ],
)
def test_what_may_change_at_once(wanted: Config, key: str) -> None:
    config, applied, waiting = reconciled(RUNNING, wanted)

    assert applied == (key,)
    assert waiting == ()
    assert config == wanted != RUNNING


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        (changed(data="there"), "data"),
        (changed(collector="other"), "collector"),
        (changed(venues=[]), "venues"),
        (changed(http={"port": 9}), "http.port"),
        (changed(http={"host": "0.0.0.0"}), "http.host"),
        (changed(http={"enabled": False}), "http.enabled"),
        (changed(journal={"segment_mb": 1}), "journal.segment_mb"),
        (changed(store={"memory_limit_mb": 64}), "store.memory_limit_mb"),
        (changed(fill={"enabled": False}), "fill.enabled"),
    ],
)
def test_what_waits_for_a_restart(wanted: Config, key: str) -> None:
    assert reconciled(RUNNING, wanted) == (RUNNING, (), (key,))


def test_both_at_once_and_nothing() -> None:
    wanted = changed(data="there", log_level="error")

    config, applied, waiting = reconciled(RUNNING, wanted)

    assert (config.data, config.log_level) == ("here", "error")
    assert (applied, waiting) == (("log_level",), ("data",))
    assert reconciled(config, config) == (config, (), ())
    assert reconciled(config, wanted) == (config, (), ("data",)), "it waits still"


def test_a_secret_is_compared_and_never_shown() -> None:
    secret = changed(http={"token": "a long random word"})

    assert dict(all_leaves(secret))["http.token"] == "a long random word"
    assert dict(leaves(secret))["http.token"] == "***"
    assert dict(leaves(RUNNING))["http.token"] == ""
    assert b"random" not in secret.encode()
    assert Config.decode(secret.encode()) == RUNNING
