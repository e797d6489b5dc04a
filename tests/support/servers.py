"""Programs of real servers, for tests that need one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from forebay.errors import Unreachable
from forebay.lab import servers

if TYPE_CHECKING:
    from pathlib import Path


def needed(*names: str) -> Path:
    """The program of one of ``names``; without it the test is skipped by name and reason.

    Where a folder of servers is named, as in continuous integration, it fails instead.
    """
    try:
        return servers.find(*names)
    except Unreachable as error:
        if os.environ.get(servers.FOLDER):
            raise
        pytest.skip(str(error))
