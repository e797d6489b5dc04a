"""Which changes of the configuration hold at once, and which wait for a restart. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from forebay.app.wiring.config import Config, all_leaves

LIVE = (
    "resilience.",
    "http.token",
    "http.token_file",
    "log_level",
    "journal.retain",
    "journal.retain_gb",
    "query.timeout_s",
)
"""Keys, or beginnings of keys that end in a point, that may change while it runs."""


def reconciled(running: Config, wanted: Config) -> tuple[Config, tuple[str, ...], tuple[str, ...]]:
    """Return what holds from now on, the keys that changed, and those that need a restart."""
    old, new = dict(all_leaves(running)), dict(all_leaves(wanted))
    changed = [key for key in new if old.get(key) != new[key]]
    live = tuple(key for key in changed if _is_live(key))
    tree: dict[str, Any] = msgspec.to_builtins(running)
    for key in live:
        *sections, last = key.split(".")
        table = tree
        for section in sections:
            table = table[section]
        table[last] = new[key]
    return msgspec.convert(tree, Config), live, tuple(key for key in changed if key not in live)


def _is_live(key: str) -> bool:
    return any(key.startswith(live) if live.endswith(".") else key == live for live in LIVE)
