"""Waiting for a predecessor's locks, and for nothing else."""

from __future__ import annotations

import asyncio

import pytest

from forebay.app.child import patiently
from forebay.clock import SystemClock
from forebay.errors import ConfigError, ForebayError, Unreachable
from forebay.journal import WriterBusy


class Tries:
    """Raises ``error`` the first time."""

    def __init__(self, error: ForebayError) -> None:
        self.error = error
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        if self.count == 1:
            raise self.error
        return "mine"


@pytest.mark.parametrize("held", [Unreachable("held"), WriterBusy("held")])
async def test_what_is_held_is_waited_for(held: ForebayError) -> None:
    assert await patiently(SystemClock(), asyncio.Event(), Tries(held)) == "mine"


async def test_what_cannot_be_is_refused_at_once() -> None:
    tries = Tries(ConfigError("Written by a newer Forebay."))

    with pytest.raises(ConfigError, match="newer"):
        await patiently(SystemClock(), asyncio.Event(), tries)
    assert tries.count == 1
