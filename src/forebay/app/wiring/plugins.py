"""Parts from outside the tree, named as ``package.module:ATTRIBUTE``."""

from __future__ import annotations

import importlib
from typing import TypeVar

from forebay.errors import ConfigError

Part = TypeVar("Part")


def load(plugin: str, of: str, kind: type[Part], example: str) -> Part:
    """Return what ``plugin`` names: a ``kind``, and the plugin of the part ``of``.

    Raises :class:`~forebay.errors.ConfigError` in one sentence that says what to do; ``example``
    is the usual name of the attribute.
    """
    told = f"The plugin {plugin!r} of the {of}"
    module, _, attribute = plugin.partition(":")
    written = f"Write package.module:{example}."
    if not (module and attribute):
        raise ConfigError(f"{told} names no object.", hint=written)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:
        message = f"{told} cannot be imported: {type(error).__name__}: {error}."
        hint = "Install its package beside forebay, or name its folder in PYTHONPATH."
        raise ConfigError(message, hint=hint) from error
    if not isinstance(found, kind):
        raise ConfigError(f"{told} is no {kind.__module__}.{kind.__name__}.", hint=written)
    return found
