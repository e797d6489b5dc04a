"""The product's own capture and deliver processes, with the exam's venues and kind beside ours.

``python -m tests.exam.process ROLE``, otherwise as ``python -m forebay.app.child``.
"""

from __future__ import annotations

import sys
from functools import partial

from forebay.app import child, venues
from forebay.domain.kinds import KINDS
from tests.exam.made.connector import MadeSource
from tests.exam.made.protocol import EDITIONS, MadeParser
from tests.exam.ping import PING


def install() -> None:
    """Add the venues and the kind: this is all that they need of the rest."""
    KINDS[PING.channel] = PING
    for edition in EDITIONS:
        venues.VENUES[edition.venue] = venues.Venue(partial(MadeParser, edition), MadeSource)


if __name__ == "__main__":
    install()
    sys.exit(child.main(sys.argv[1]))
