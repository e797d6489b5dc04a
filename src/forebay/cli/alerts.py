"""``forebay alerts``."""

from __future__ import annotations

import sys

from forebay.cli.output import explained


def alerts() -> None:
    """Print the alert rules, as a file for Prometheus.

    Example: forebay alerts > forebay.rules.yml && promtool check rules forebay.rules.yml
    """
    with explained():
        from forebay.ops.alerts import text

        sys.stdout.write(text())
