"""A venue whose parser does not know new symbols yet, and learns them: a plugin for each class."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from forebay.sources.coinbase import VENUE as COINBASE
from tests.support.made_venue import MadeParser

if TYPE_CHECKING:
    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Parsed
    from forebay.sources.venue import Venue

NEW = b"NEW-"
"""How a symbol begins of which the broken parser makes a line with a field too many."""


class MendingParser(MadeParser):
    """Has a mistake until it is ``mended``."""

    mended = False

    def parse(self, batch: FrameBatch) -> Parsed:
        if not MendingParser.mended:
            payloads = [payload.replace(NEW, b"NEW -") for payload in batch.payloads]
            batch = dataclasses.replace(batch, payloads=payloads)
        return super().parse(batch)


def _venue(name: str, parser: MadeParser) -> Venue:
    return dataclasses.replace(COINBASE, name=name, parser=parser)


NATIVE = _venue("made-native", MendingParser("native"))
SESSION = _venue("made-session", MendingParser("session"))
CONTENT = _venue("made-content", MendingParser("content"))
OBSERVATION = _venue("made-observation", MendingParser("observation"))
