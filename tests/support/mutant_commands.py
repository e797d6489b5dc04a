"""Our commands with one thing broken, as one of the documents had it: ``… MUTANT COMMAND …``."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING

from forebay.cli.main import main
from forebay.domain.calendars import missing
from forebay.domain.intervals import IntervalSet
from forebay.services import gap_detector
from forebay.sources.massive import messages, pages

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from forebay.domain.calendars.grid import GridBars


def trust_counts() -> None:
    """As many bars as are expected are taken for those."""

    def lacking(wanted: GridBars, opens: npt.NDArray[np.int64]) -> IntervalSet:
        return IntervalSet() if len(opens) >= len(wanted.opens) else missing(wanted, opens)

    setattr(gap_detector, "missing", lacking)  # noqa: B010 - no type checker minds it


def take_missing_for_0() -> None:
    """A field that is not there is 0."""

    class Lenient(messages.BarRow, kw_only=True, rename={"open": "o", "volume": "v"}):
        open: Decimal = Decimal(0)
        volume: Decimal = Decimal(0)

    pages._bar_pages = pages._reader(Lenient)


MUTANTS = {"counts": trust_counts, "missing-is-0": take_missing_for_0}

if __name__ == "__main__":
    MUTANTS[sys.argv.pop(1)]()
    main()
