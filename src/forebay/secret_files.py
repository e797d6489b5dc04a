"""Files of secrets: TOML texts by name, which no error ever shows."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


_IN_A_FILE = "_file"


def read_secrets(file: str, whose: str) -> dict[str, str]:
    """Return the secrets of a ``credentials_file`` by name; none if no file is named.

    ``NAME_file = "PATH"`` is the secret ``NAME`` that is in a file of its own, whose path begins
    at the folder of the first.

    Raises :class:`~forebay.errors.ConfigError`, which never shows one, if it cannot be read.
    """
    if not file:
        return {}
    told = f"The credentials_file of {whose}, {file},"
    try:
        found = dict(_flat(tomllib.loads(Path(file).read_text(encoding="utf-8-sig"))))
    except OSError as error:
        message = f"{told} cannot be read: {error.strerror}."
        raise ConfigError(message, hint="Make it, readable by this user alone.") from None
    except ValueError:
        found = {}
    if not found or not all(isinstance(value, str) for value in found.values()):
        hint = 'Write one line for each, such as key = "…".'
        raise ConfigError(f"{told} holds no secrets as TOML texts.", hint=hint) from None
    return dict(_whole(found, Path(file).parent, told))


def open_to_all(file: str) -> list[str]:
    """Return which of a ``credentials_file`` and those that it names every user here may read.

    A file that cannot be read is none of them.
    """
    try:
        first = Path(file)
        found = _flat(tomllib.loads(first.read_text(encoding="utf-8-sig")))
        named = [first.parent / str(value) for name, value in found if name.endswith(_IN_A_FILE)]
        return [str(each) for each in (first, *named) if each.stat().st_mode & stat.S_IROTH]
    except (OSError, ValueError):
        return []


def _whole(secrets: dict[str, str], folder: Path, told: str) -> Iterator[tuple[str, str]]:
    """Return secrets with those that are in files of their own; ``told`` names their file."""
    for name, value in secrets.items():
        if not name.endswith(_IN_A_FILE):
            yield name, value
            continue
        try:
            yield name.removesuffix(_IN_A_FILE), (folder / value).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            # What it names is not shown: somebody may have put the secret itself there.
            message = f"{told} names a file as {name} that cannot be read: {why}."
            raise ConfigError(message, hint="Make it, readable by this user alone.") from None


def _flat(table: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Return ``sasl.password = "x"`` as it was written: TOML makes tables of dots."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value
