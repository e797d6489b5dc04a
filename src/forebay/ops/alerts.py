"""The alert rules: as they are, and with all durations shorter, for drills."""

from __future__ import annotations

import re
from importlib.resources import files

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FOR = re.compile(r"(?m)^(\s+for: )(\d+)(ms|[smhd])$")
_WINDOW = re.compile(r"(\[)(\d+)(ms|[smhd])(?=\])")
_NAME = re.compile(r"(?m)^\s+- alert: (\w+)")


def text() -> str:
    """Return the rules, as a file for Prometheus."""
    return files("forebay.ops").joinpath("alerts.yml").read_text(encoding="utf-8")


def names(rules: str) -> list[str]:
    """Return the names of the alerts in ``rules``, in their order."""
    return _NAME.findall(rules)


def scaled(rules: str, factor: float, *, least_window_s: float = 2.0) -> str:
    """Return ``rules`` with each ``for:`` and each window times ``factor``.

    Thresholds are values, also those in seconds, and stay. A window does not become shorter than
    ``least_window_s``: with less than two scrapes in it, it would show nothing.
    """

    def windows(found: re.Match[str]) -> str:
        return _shorter(found, factor, round(least_window_s * 1000))

    rules = _FOR.sub(lambda found: _shorter(found, factor, 0), rules)
    return _WINDOW.sub(windows, rules)


def _shorter(found: re.Match[str], factor: float, least_ms: int) -> str:
    number = max(least_ms, round(int(found[2]) * _UNITS[found[3]] * factor))
    return f"{found[1]}{number}ms"
