"""The program's first lines: whoever stops it while the rest is brought in sees no traceback."""

from __future__ import annotations

import sys

_STOPPED = 130


def main() -> None:
    """Run :func:`forebay.cli.main.main`; a Ctrl-C before that can answer it is exit code 130."""
    try:
        from forebay.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(_STOPPED)
