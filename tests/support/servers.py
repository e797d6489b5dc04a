"""Programs of real servers, for tests that need one."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from forebay.errors import Unreachable
from forebay.lab import clickhouse_server, kafka_server, servers
from forebay.lab.commands import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.clock import Clock


def needed(*names: str) -> Path:
    """The program of one of ``names``; without it the test is skipped by name and reason.

    Where a folder of servers is named, as in continuous integration, it fails instead.
    """
    with _skipped_without():
        return servers.find(*names)


def needs_kafka() -> None:
    """Skip a test by name and reason if there is no Kafka, as :func:`needed` does."""
    with _skipped_without():
        pytest.importorskip("confluent_kafka", exc_type=ImportError)
        kafka_server.java()
        kafka_server.jars()


def needs_clickhouse() -> None:
    """Skip a test by name and reason if there is no ClickHouse, as :func:`needed` does."""
    with _skipped_without():
        clickhouse_server.needs_engine()


@contextlib.contextmanager
def _skipped_without() -> Iterator[None]:
    try:
        yield
    except Unreachable as error:
        if os.environ.get(servers.FOLDER):
            raise
        pytest.skip(str(error))


async def delivered(
    hook: servers.Webhook, alert: str, status: servers.Status, *, seconds: float, clock: Clock
) -> servers.Delivery:
    """Return the first delivery of ``alert`` that came so; wait if there is none yet."""

    async def look() -> servers.Delivery | None:
        found = (e for e in hook.deliveries if (e.alert, e.status) == (alert, status))
        return next(found, None)

    return await until(clock, look, f"{alert} to be delivered as {status}", seconds)
