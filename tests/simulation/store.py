"""A store that is away, refuses, or whose COMMIT answer is lost; what it has, it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.errors import Transient, Unreachable
from forebay.ports import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from forebay.ports import Commit, Committed, StoreState
    from tests.simulation.machine import Life
    from tests.simulation.weather import Weather


class SimStore(Store):
    """One process's connection to a store that outlives it."""

    def __init__(
        self, inner: Store, life: Life, weather: Weather, now: Callable[[], float]
    ) -> None:
        self._inner = inner
        self._life = life
        self._weather = weather
        self._now = now

    def load(self) -> StoreState:
        """Cursors and coverage."""
        self._answering()
        return self._inner.load()

    def commit(self, commit: Commit) -> Committed:
        """All of it or nothing; the process may die just before or just after."""
        self._answering()
        if self._weather.strikes("store_refuses"):
            raise Transient("The store refuses.")
        self._life.operate("commit")
        done = self._inner.commit(commit)
        self._life.operate("committed")
        if self._weather.strikes("answer_lost"):
            raise Unreachable("The store's answer was lost.")
        return done

    def first_told(self, table: str, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """Which rows are the first that told their event."""
        self._answering()
        return self._inner.first_told(table, rows)

    def close(self) -> None:
        """Nothing to release."""

    def _answering(self) -> None:
        self._life.check()
        if self._weather.lasts("store_down", self._now()):
            raise Unreachable("The store is away.")
