"""A Ctrl-C is answered from the first moment on."""

from __future__ import annotations

import sys

import pytest

from forebay.cli.start import main


class Interrupted:
    """Finds modules, and is interrupted meanwhile."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "forebay.cli.main":
            raise KeyboardInterrupt


def test_a_stop_while_modules_are_brought_in_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "forebay.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
