"""Libraries that some processes never use, imported where something of them is used first.

numpy takes a process some 15 MB. Capture and the supervisor import modules that calculate with it
elsewhere; such modules import it as mypy is told, and at run time from here::

    if TYPE_CHECKING:
        import numpy as np
    else:
        from forebay.lazy import numpy as np
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Lazy:
    """Stands for a module; what was used once is an attribute like any other."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        found = getattr(import_module(self._name), name)
        setattr(self, name, found)
        return found


numpy = Lazy("numpy")
