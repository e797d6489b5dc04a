"""Capture market data, deliver it once, and prove it.

``forebay.open(folder)`` reads what was captured; everything else is a command, see
``forebay --help``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "open"]

if TYPE_CHECKING:
    from forebay.app.reading import open  # noqa: A004


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute can be anything
    if name == "open":  # loaded on demand: databases are heavy, and most commands need none
        from forebay.app.reading import open as open_folder

        return open_folder
    message = f"module 'forebay' has no attribute {name!r}"
    raise AttributeError(message)
