"""What is wrong with a configuration, all of it at once."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class ConfigErrors(ConfigError):
    """Several things that cannot be, each an error of its own."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = tuple(errors)


@dataclass(frozen=True, slots=True)
class Complaints:
    """Collects what cannot be, so that a person reads of all of it at once."""

    errors: list[ConfigError] = field(default_factory=list)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Keep a :class:`ConfigError` of the block instead of raising it."""
        try:
            yield
        except ConfigErrors as several:
            self.errors.extend(several.errors)
        except ConfigError as error:
            self.errors.append(error)

    def tell(self) -> None:
        """Raise what was noted, if anything was, and each thing once."""
        errors = list({str(error): error for error in self.errors}.values())
        if errors:
            raise errors[0] if len(errors) == 1 else ConfigErrors(errors)
