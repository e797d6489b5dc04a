"""Capture market data, deliver it once, and prove it.

``forebay.open(folder)`` reads what was captured, and ``forebay.resilience`` is how calls survive;
everything else is a command, see ``forebay --help``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Data", "__version__", "errors", "open", "resilience"]

if TYPE_CHECKING:
    from forebay import errors, resilience
    from forebay.app.reader import Data, open  # noqa: A004


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute can be anything
    # Loaded on demand: databases are heavy, and most commands need none.
    if name in {"Data", "open"}:
        return getattr(importlib.import_module("forebay.app.reader"), name)
    if name in {"errors", "resilience"}:
        return importlib.import_module(f"forebay.{name}")
    message = f"module 'forebay' has no attribute {name!r}"
    raise AttributeError(message)
