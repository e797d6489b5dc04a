"""The other half of the worlds of every CI run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.test_core import CI_SEEDS, clean_worlds

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.timeout(1200)
def test_no_other_world_loses_doubles_alters_or_hides_an_event(
    record_property: Callable[[str, object], None],
) -> None:
    record_property("summary", clean_worlds(CI_SEEDS))
