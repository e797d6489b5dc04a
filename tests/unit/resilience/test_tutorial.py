"""The blocks of the pages about resilience run, in order, as they are printed."""

from __future__ import annotations

import pytest

from tests.support.pages import blocks, page

PAGES = {"tutorial/resilience": 5, "explanation/resilience": 2, "how-to/coming-from": 4}
"""Pages, and how many blocks of ours they have."""
PEERS = ("pybreaker", "tenacity")


def run(name: str, kind: str) -> dict[str, object]:
    namespace: dict[str, object] = {}
    for block in blocks(page(name), kind):
        assert "assert" in block, "a block that says nothing of what comes out shows nothing"
        exec(compile(block, name, "exec"), namespace)  # noqa: S102
    return namespace


@pytest.mark.parametrize(("name", "count"), PAGES.items())
def test_every_block_of_ours_runs(name: str, count: int) -> None:
    assert len(blocks(page(name), "python")) == count
    assert run(name, "python")


def test_the_tutorial_retries() -> None:
    assert len(run("tutorial/resilience", "python")["tries"]) == 3  # type: ignore[arg-type]


def test_what_is_said_of_peers_is_so_where_they_are_installed() -> None:
    for peer in PEERS:
        pytest.importorskip(peer, reason=f"{peer} is in the group peers: make probes installs it")
    names = run("how-to/coming-from", "py")
    assert {"pybreaker", "retry"} <= names.keys()
