"""Times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from forebay.errors import ConfigError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND_NS = 1000
_NANOSECONDS = re.compile(r"(?<=\.[0-9]{6})[0-9]{1,3}(?![0-9])")
"""Digits that Python's own times have no place for."""
SPAN = r"\A(0|[1-9][0-9]{0,5}[smhdw])\Z"
"""A span of time: ``0``, or a whole number and one unit."""
SPAN_HINT = (
    'Write a whole number and s, m, h, d or w, like "12h" or "7d"; "0" keeps nothing longer '
    "than it must."
)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def to_ns(moment: datetime | str) -> int:
    """Return UTC nanoseconds of an ISO 8601 text or a datetime; without a zone it is UTC.

    Raises :class:`~forebay.errors.ConfigError` if the text is no time.
    """
    finer = 0
    if isinstance(moment, str):
        if digits := _NANOSECONDS.search(moment):
            finer = int(digits[0].ljust(3, "0"))
        try:
            moment = datetime.fromisoformat(_NANOSECONDS.sub("", moment))
        except ValueError as error:
            hint = "Write it like 2026-11-22T10:00:00Z."
            raise ConfigError(f"{moment!r} is not a time.", hint=hint) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    elapsed = moment - _EPOCH
    seconds = elapsed.days * 86_400 + elapsed.seconds
    return (seconds * 1_000_000 + elapsed.microseconds) * _MICROSECOND_NS + finer


def to_text(moment_ns: int, *, exact: bool = False) -> str:
    """Return UTC nanoseconds as ISO 8601: to the second, or ``exact`` with all their digits."""
    seconds, nanoseconds = divmod(moment_ns, 10**9)
    text = (_EPOCH + timedelta(seconds=seconds)).isoformat().removesuffix("+00:00")
    return f"{text}.{nanoseconds:09d}Z" if exact else f"{text}Z"


def in_sql(moment_ns: int) -> str:
    """Return UTC nanoseconds as any SQL has a time that is compared with a column of times."""
    return f"'{to_text(moment_ns, exact=True).replace('T', ' ').removesuffix('Z')}'"


def span_ns(text: str) -> int:
    """Return the nanoseconds of ``0``, ``90s``, ``15m``, ``12h``, ``7d`` or ``2w``.

    Raises :class:`~forebay.errors.ConfigError` if the text is nothing like that.
    """
    if re.match(SPAN, text) is None:
        raise ConfigError(f"{text!r} is no span of time.", hint=SPAN_HINT)
    return 0 if text == "0" else int(text[:-1]) * _UNIT_S[text[-1]] * 10**9
