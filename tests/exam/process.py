"""The product's own capture and deliver processes, with the exam's kind beside ours.

``python -m tests.exam.process ROLE``, otherwise as ``python -m forebay.app.processes.worker``.
"""

from __future__ import annotations

import sys

from forebay.app.processes import worker
from forebay.domain.kinds import KINDS
from tests.exam.ping import PING

if __name__ == "__main__":
    KINDS[PING.channel] = PING
    sys.exit(worker.main(sys.argv[1]))
