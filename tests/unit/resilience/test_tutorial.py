"""The tutorial's blocks run, in order, as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "tutorial" / "resilience.md"


def test_every_block_of_the_tutorial_runs() -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) == 5
    assert all("assert" in block for block in blocks)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), namespace)  # noqa: S102
    assert len(namespace["tries"]) == 3  # type: ignore[arg-type]
