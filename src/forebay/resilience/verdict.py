"""What the end of a call says about the dependency."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from forebay.errors import Corrupt, Permanent
from forebay.resilience.refusals import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

Kinds = type[BaseException] | tuple[type[BaseException], ...]
"""Exception classes, as ``except`` takes them."""


class Verdict(Enum):
    """How a call counts."""

    OK = "ok"
    FAILURE = "failure"
    SLOW = "slow"
    """It ended without an error, or was given up, after the slow call duration: a failure."""
    NEUTRAL = "neutral"
    """It says nothing about the dependency: cancelled, refused before it, or ignored."""


@dataclass(frozen=True, slots=True)
class Classify:
    """Which ends of a call are failures of the dependency.

    ``failure`` counts unless ``ignore`` matches too. By default a data error (Permanent,
    Corrupt) is ignored, since a dependency that rejects a row is not down. ``result`` is asked
    about what was returned and says True for a failure, such as a response with status 503.
    """

    failure: Kinds = Exception
    ignore: Kinds = (Permanent, Corrupt)
    result: Callable[[object], bool] | None = None

    def error(self, error: BaseException) -> Verdict:
        """Judge an exception; what is no ``Exception`` (cancellation, interrupts) is neutral."""
        if not isinstance(error, Exception) or isinstance(error, (Refused, self.ignore)):
            return Verdict.NEUTRAL
        return Verdict.FAILURE if isinstance(error, self.failure) else Verdict.NEUTRAL

    def returned(self, result: object) -> Verdict:
        """Judge what was returned."""
        failed = self.result is not None and self.result(result)
        return Verdict.FAILURE if failed else Verdict.OK
