"""What a happening is, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Happening:
    """Something worth telling; ``level`` says how loudly."""

    level: ClassVar[Level] = "info"


Observer = Callable[[Happening], None]
"""Takes a happening; must not block and must not raise."""


def ignore(happening: Happening) -> None:
    """Observe nothing."""
    del happening
