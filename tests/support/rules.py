"""Alert rules as they are read, and what one asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Mapping

Matchers = dict[str, tuple[str, str]]
"""By label, how it is compared and with what."""


def parsed(text: str) -> list[dict[str, Any]]:
    """The rules of a rule file, in their order."""
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def selectors(expression: str) -> list[tuple[str, Matchers]]:
    """The metrics in a PromQL expression, each with what its labels must be."""
    bare = re.sub(r"\b(by|on|group_left) \([^)]*\)|\[[^\]]*\]", "", expression)
    asked = re.findall(r"([a-z_]{2,})(?![a-z_(])(?:\{([^}]*)\})?", bare)
    return [
        (name, {label: (op, text) for label, op, text in re.findall(r'(\w+)([=!]~?)"(.*?)"', said)})
        for name, said in asked
        if "_" in name or name == "up"
    ]


def selects(matchers: Matchers, labels: Mapping[str, str]) -> bool:
    """Whether a series with ``labels`` is among those that ``matchers`` select."""
    for label, (op, text) in matchers.items():
        pattern = text if op.endswith("~") else re.escape(text)
        if bool(re.fullmatch(pattern, labels.get(label, ""))) == op.startswith("!"):
            return False
    return True
