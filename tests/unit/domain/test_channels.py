"""Channels: what may be declared, and what a declaration can never show."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from forebay.domain.channels import UNITS_OF, Channel, Unit
from forebay.domain.coverage import COVERAGES
from forebay.domain.identity import IdentityClass

LEGAL = [
    ("native", "id"),
    ("native", "seq"),
    ("native", "time"),
    ("native", "none"),
    ("session", "seq"),
    ("session", "time"),
    ("session", "none"),
    ("content", "seq"),
    ("content", "time"),
    ("content", "none"),
    ("observation", "seq"),
    ("observation", "time"),
    ("observation", "none"),
]


EVERY = [(identity, unit) for identity in get_args(IdentityClass) for unit in get_args(Unit)]


@pytest.mark.parametrize(("identity", "unit"), EVERY)
def test_a_pair_is_legal_or_refused(identity: IdentityClass, unit: Unit) -> None:
    if (identity, unit) in LEGAL:
        assert Channel("trade", identity, unit).unit == unit
    else:
        with pytest.raises(ValueError, match=f"class {identity} cannot count in the unit {unit}"):
            Channel("trade", identity, unit)


def test_what_is_legal_is_listed_for_every_class() -> None:
    assert [(identity, unit) for identity, units in UNITS_OF.items() for unit in units] == LEGAL
    assert set(UNITS_OF) == set(get_args(IdentityClass))


def test_every_unit_has_a_coverage_that_says_so() -> None:
    assert set(COVERAGES) == set(get_args(Unit))
    assert {unit: coverage().unit for unit, coverage in COVERAGES.items()} == {
        unit: unit for unit in COVERAGES
    }


@pytest.mark.parametrize(
    ("identity", "unit", "clauses"),
    [
        ("native", "id", []),
        ("native", "none", ["never came"]),
        ("session", "seq", ["between two connections"]),
        ("content", "time", ["left out", "twice over one connection"]),
        ("observation", "none", ["never came", "told twice"]),
    ],
)
def test_what_cannot_be_seen_is_said(
    identity: IdentityClass, unit: Unit, clauses: list[str]
) -> None:
    *said, altered = Channel("trade", identity, unit).unseeable.split("; ")
    assert "another content" in altered
    assert len(said) == len(clauses)
    assert all(clause in text for clause, text in zip(clauses, said, strict=True))


def test_where_a_connection_is_counted_only_what_has_no_number_is_not_seen() -> None:
    plain = Channel("trade", "native", "time")
    assert "while a connection was heard" in plain.unseeable
    assert "did not number" in replace(plain, counted=True).unseeable
    assert "while a connection was heard" not in replace(plain, counted=True).unseeable
