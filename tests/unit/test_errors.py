"""The error tree: the branch decides what happens, and every error says what to do."""

from __future__ import annotations

import inspect

import pytest

from forebay import errors
from forebay.errors import (
    ConfigError,
    Corrupt,
    CursorBeyondEnd,
    CursorMoved,
    ForebayError,
    JournalFull,
    LaneLost,
    Permanent,
    RowsRefused,
    Stuck,
    TableUnavailable,
    Transient,
    Unreachable,
    Unusable,
)

TREE = {
    Transient: (ForebayError, 3),
    Unreachable: (Transient, 3),
    Unusable: (Transient, 3),
    Stuck: (Unusable, 3),
    CursorMoved: (Transient, 3),
    LaneLost: (Transient, 3),
    TableUnavailable: (Transient, 3),
    JournalFull: (Transient, 3),
    Permanent: (ForebayError, 1),
    RowsRefused: (Permanent, 1),
    ConfigError: (Permanent, 2),
    Corrupt: (ForebayError, 1),
    CursorBeyondEnd: (Corrupt, 1),
}


@pytest.mark.parametrize("kind", TREE)
def test_every_error_has_its_branch_and_exit_code(kind: type[ForebayError]) -> None:
    branch, exit_code = TREE[kind]
    assert kind.__base__ is branch
    assert kind("x").exit_code == exit_code


def test_the_tree_is_whole_and_drawn_in_the_module() -> None:
    found = {kind for _, kind in inspect.getmembers(errors, inspect.isclass)}
    assert found == {ForebayError, *TREE}
    assert errors.__doc__ is not None
    assert all(kind.__name__ in errors.__doc__ for kind in found)


@pytest.mark.parametrize("kind", [ForebayError, *TREE])
def test_an_error_says_what_happened_and_what_to_do(kind: type[ForebayError]) -> None:
    error = kind("The disk is full.", hint="Make room.")
    assert str(error) == "The disk is full. Make room."
    assert (error.message, error.hint) == ("The disk is full.", "Make room.")
    assert str(kind("The disk is full.")) == "The disk is full."
    with pytest.raises(ForebayError):
        raise error
