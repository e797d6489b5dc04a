"""What holds for every happening."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from forebay import telemetry
from forebay.telemetry import Happening, ignore

KINDS = [
    kind
    for _, kind in inspect.getmembers(telemetry, inspect.isclass)
    if issubclass(kind, Happening) and kind is not Happening
]


def test_there_are_happenings() -> None:
    assert len(KINDS) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_happening_is_a_frozen_fact_with_a_level_and_a_meaning(kind: type[Happening]) -> None:
    assert kind.level in {"info", "warning", "error"}
    assert kind.__doc__
    assert not kind.__doc__.startswith(kind.__name__), "the docstring is dataclass's own"
    names = [field.name for field in dataclasses.fields(kind)]
    assert "level" not in names
    happening = kind(*range(len(names)))
    assert [getattr(happening, name) for name in names] == list(range(len(names)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(happening, names[0], 1)
    ignore(happening)
