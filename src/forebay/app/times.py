"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

from forebay.errors import ConfigError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND_NS = 1000


def to_ns(moment: datetime | str) -> int:
    """Answer UTC nanoseconds of an ISO 8601 text or a datetime; without a zone it is UTC.

    Raises :class:`~forebay.errors.ConfigError` if the text is no time.
    """
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError as error:
            hint = "Write it like 2026-11-22T10:00:00Z."
            raise ConfigError(f"{moment!r} is not a time.", hint=hint) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    elapsed = moment - _EPOCH
    seconds = elapsed.days * 86_400 + elapsed.seconds
    return (seconds * 1_000_000 + elapsed.microseconds) * _MICROSECOND_NS
