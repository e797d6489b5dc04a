"""Runs ``forebay`` as a user whom a folder's mode binds: ``python -m … plain_user run -c FILE``.

Linux lets root write where the mode forbids it (capabilities(7): CAP_DAC_OVERRIDE), so a drill
that makes a folder read-only would prove nothing when root starts it. Without those
capabilities root is a user like any other; everybody else is one already.
"""

from __future__ import annotations

import ctypes
import os
import sys

from forebay.lab.commands import FOREBAY

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2


def give_up_root() -> None:
    """Let what this process executes next obey modes; OSError if that cannot be had."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    give_up_root()
    os.execv(FOREBAY[0], [*FOREBAY, *sys.argv[1:]])  # noqa: S606 - our own command
