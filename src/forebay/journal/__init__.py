"""The journal: a durable, append-only log of frames on the local disk.

It knows nothing of markets: a frame is a payload, a kind and a receipt time, and what its
context means is the caller's business. See :mod:`forebay.journal.format` for the bytes.
"""

from forebay.journal.cursor import CursorFile, StateFile
from forebay.journal.disk import OS_DISK, Disk, OsDisk
from forebay.journal.fsck import Finding, FsckReport, ensure_durable, fsck, inspect, iter_blocks
from forebay.journal.model import LOSS_KIND, NO_LOG, Block, PendingBlock, Position, new_id
from forebay.journal.reader import JournalReader
from forebay.journal.recovery import RecoveryReport
from forebay.journal.survey import Survey
from forebay.journal.writer import JournalWriter, WriterBusy

__all__ = [
    "LOSS_KIND",
    "NO_LOG",
    "OS_DISK",
    "Block",
    "CursorFile",
    "Disk",
    "Finding",
    "FsckReport",
    "JournalReader",
    "JournalWriter",
    "OsDisk",
    "PendingBlock",
    "Position",
    "RecoveryReport",
    "StateFile",
    "Survey",
    "WriterBusy",
    "ensure_durable",
    "fsck",
    "inspect",
    "iter_blocks",
    "new_id",
]
