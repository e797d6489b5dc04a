"""Drivers that extras install, brought in by the first call of what needs them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


class Driven(NamedTuple):
    """A module that needs a driver: whoever only asks what kinds there are goes without."""

    module: str
    driver: str
    """The package that it imports."""
    extra: str
    """What installs that."""

    def at(self, name: str) -> Callable[..., Any]:
        """Return what calls ``name`` of the module.

        The call raises :class:`~forebay.errors.ConfigError` if the driver is not installed.
        """

        def call(*arguments: object) -> Any:  # noqa: ANN401 - whatever it returns
            return getattr(self.brought_in(), name)(*arguments)

        return call

    def brought_in(self) -> ModuleType:
        """Return the module.

        Raises :class:`~forebay.errors.ConfigError` if the driver is not installed.
        """
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != self.driver:
                raise
            message = f"The driver {self.driver} is not installed."
            hint = f'Run, in the clone: pip install ".[{self.extra}]"'
            raise ConfigError(message, hint=hint) from error
