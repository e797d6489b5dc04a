"""``forebay alerts``."""

from __future__ import annotations

import sys


def alerts() -> None:
    """Print the alert rules, as a file for Prometheus.

    Example: forebay alerts > forebay.rules.yml && promtool check rules forebay.rules.yml
    """
    from forebay.ops.alerts import text

    sys.stdout.write(text())
