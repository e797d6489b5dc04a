"""Alert rules as they are read, and what one asks for."""

from __future__ import annotations

import re
from typing import Any

import yaml  # type: ignore[import-untyped]


def parsed(text: str) -> list[dict[str, Any]]:
    """The rules of a rule file, in their order."""
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def alert_metrics(expression: str) -> list[tuple[str, set[str]]]:
    """The metrics in a PromQL expression, each with the labels that its selector names."""
    bare = re.sub(r"\b(by|on) \([^)]*\)|\[[^\]]*\]", "", re.sub(r'"[^"]*"', '""', expression))
    asked = re.findall(r"([a-z_]{2,}(?![a-z_(]))(?:\{([^}]*)\})?", bare)
    return [
        (name, set(re.findall(r"(\w+)[=!]", selector)))
        for name, selector in asked
        if "_" in name or name == "up"
    ]
