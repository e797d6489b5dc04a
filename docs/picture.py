"""Makes docs/images/demo.svg from a real run of the demonstration: ``make picture``."""

from __future__ import annotations

import asyncio
import io
import re
import tempfile
from pathlib import Path

from rich.console import Console

from forebay.app.wiring.data_folder import DataFolder
from forebay.cli.audit_view import render_table
from forebay.clock import SystemClock
from forebay.lab.drills.kill import KillDrill, demo_plan

PICTURE = Path(__file__).parent / "images" / "demo.svg"
SECONDS = 15.0


def main() -> None:
    """Run the demonstration and keep what it prints at its end."""
    console = Console(record=True, width=80, file=io.StringIO(), highlight=False)
    console.print("$ make demo", style="bold")
    told: list[str] = []

    def say(what: str, _share: float) -> None:
        if what.startswith("killed") and what not in told[-1:]:
            told.append(what)
            console.print(f"  {what}")

    with tempfile.TemporaryDirectory(prefix="forebay-picture-") as folder:
        drill = KillDrill(
            demo_plan(SECONDS, 1), DataFolder(Path(folder) / "data").create(), SystemClock(), say
        )
        report = asyncio.run(drill.run())
    console.print(render_table(report))
    # No font is fetched from anywhere: the reader's own fixed-width font serves.
    svg = re.sub(r"@font-face {.*?}", "", console.export_svg(title="forebay demo"), flags=re.DOTALL)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(svg)


if __name__ == "__main__":
    main()
