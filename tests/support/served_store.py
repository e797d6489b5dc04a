"""A kind of store for processes under test: a database in a file that can be away, as a server.

A table names it as ``plugin = "tests.support.served_store:STORE"``, with the path of the database
as its url. It does not answer while there is a file of the same path that ends in ``.away``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.errors import Unreachable
from forebay.stores import duckdb
from forebay.stores.kind import StoreConfig, StoreKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLUGIN = f"{__name__}:STORE"
_CALLS = ("load", "commit", "first_told", "reader", "rarities")


def away(url: str | Path) -> Path:
    """Return the file whose being there says that nobody answers."""
    return Path(f"{url}.away")


def require_there(config: StoreConfig) -> None:
    if away(config.url).exists():
        raise Unreachable(f"Nobody answers at {config.url}.")


class ServedStore:
    """Opens the database with the first call, and lets go of it when it is found to be away."""

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._held: Any = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _CALLS:  # it derives nothing, and writes no files
            raise AttributeError(name)

        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            with self._there() as store:
                return getattr(store, name)(*arguments, **named)

        return call

    @contextlib.contextmanager
    def _there(self) -> Iterator[Any]:
        try:
            require_there(self._config)
        except Unreachable:
            self.close()
            raise
        if self._held is None:
            self._held = duckdb.STORE.open(self._config, Path(self._config.url))
        yield self._held

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


def _read(config: StoreConfig, _: Path, most_mb: int | None) -> Any:  # noqa: ANN401
    require_there(config)
    return duckdb.STORE.read(config, Path(config.url), most_mb)


def _probe(config: StoreConfig) -> str:
    require_there(config)
    return "a database in a file"


STORE = StoreKind(
    name="served",
    open=lambda config, _: ServedStore(config),
    read=_read,
    audited=duckdb.STORE.audited,
    probe=_probe,
)
