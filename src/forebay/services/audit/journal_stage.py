"""The journal's side of an audit: its frames projected anew, exactly up to a cursor."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from forebay.journal import LOSS_KIND, JournalReader, ensure_durable
from forebay.services.audit.scratch import columns_of, first_row, prepare
from forebay.services.projection import Projection, batches_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Self

    from forebay.clock import Clock
    from forebay.domain.coverage import StreamCoverage, StreamKey
    from forebay.journal import Block
    from forebay.ports import Parser
    from forebay.services.audit.scratch import Scratch


_FRAME_OVERHEAD = 12
_DAWN, _DUSK = -(1 << 63), (1 << 63) - 1


class Blind(NamedTuple):
    """Receipt times, both included, of which frames are not in the journal any more."""

    first: int
    last: int


class JournalStage:
    """Reads and projects a journal piece by piece; rows rest in the scratch database."""

    def __init__(
        self,
        folder: Path,
        parsers: Mapping[str, Parser],
        scratch: Scratch,
        clock: Clock,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        prepare(scratch)
        self._folder = folder
        self._scratch = scratch
        self._clock = clock
        self._projection = Projection(parsers, {})
        self._reader: JournalReader | None = None
        self._left: list[Block] = []
        self._progress = progress or _silent
        self._done = 0
        self._total = sum(path.stat().st_size for path in folder.glob("*.fbj"))
        self._latest_ns = _DAWN
        self._oldest_ns = _DUSK
        self._in_loss = False
        self.seq = 1
        """The sequence number up to which everything is projected."""
        self.frames: Counter[str] = Counter()
        self.blind: list[Blind] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    @property
    def coverage(self) -> Mapping[StreamKey, StreamCoverage]:
        """Coverage as the retained frames have it."""
        return self._projection.coverage

    @property
    def complete(self) -> bool:
        """Whether every frame up to :attr:`seq` was there to be read."""
        return not self.blind and not self._in_loss

    def sees(self, received_ns: int) -> bool:
        """Whether a frame of this receipt time would be in the journal if it ever was."""
        if received_ns < self._oldest_ns:
            return False
        if self._in_loss and received_ns >= self._latest_ns:
            return False
        return not any(blind.first <= received_ns <= blind.last for blind in self.blind)

    def letters(self) -> int:
        """How many different dead letters there are."""
        found = self._scratch.query("SELECT count(DISTINCT letter_id) AS letters FROM letters")
        count = first_row(found)["letters"]
        return count if isinstance(count, int) else 0

    def advance(self, seq: int) -> bool:
        """Project everything before ``seq``; False if the journal ends earlier."""
        while self.seq < seq:
            blocks = list(self._before(seq))
            if not blocks and self._left:
                break  # the cursor is where nothing was ever written
            if not blocks:
                return False
            for block in blocks:
                self._witness(block)
            self._project(blocks)
            self.seq = blocks[-1].next_seq
        self._progress(self._total, self._total)
        return True

    # ------------------------------------------------------------- reading

    def _before(self, seq: int) -> Iterator[Block]:
        """The next blocks, cut at ``seq``; what is beyond is kept for the next time."""
        blocks = self._left or self._read()
        self._left = []
        for block in blocks:
            if block.next_seq <= seq or (block.kind == LOSS_KIND and block.first_seq < seq):
                yield block
            elif block.first_seq >= seq:
                self._left.append(block)
            else:
                middle = seq - block.first_seq
                yield block.part(0, middle)
                self._left.append(block.part(middle, len(block.payloads)))

    def _read(self) -> list[Block]:
        if not self._folder.is_dir():
            return []
        if self._reader is None:
            self._reader = JournalReader(self._folder)
        blocks = self._reader.read()
        if not blocks and self._total and self.seq == 1:
            # Nobody has written since the machine started: say how far it is durable.
            ensure_durable(self._folder, self._clock)
            blocks = self._reader.read()
        return blocks

    def _witness(self, block: Block) -> None:
        """Note of which receipt times frames are missing."""
        if self._latest_ns == _DAWN and not self._in_loss and block.first_seq > 1:
            self._in_loss = True
        if block.kind == LOSS_KIND:
            self._in_loss = True
            return
        if not len(block.received_ns):
            return
        if self._in_loss:
            self.blind.append(Blind(self._latest_ns, int(block.received_ns[0])))
            self._in_loss = False
        self._latest_ns = int(block.received_ns[-1])
        self._oldest_ns = min(self._oldest_ns, int(block.received_ns.min()))

    # ---------------------------------------------------------- projecting

    def _project(self, blocks: list[Block]) -> None:
        projected = self._projection.project(batches_of(blocks))
        self._projection.adopt(projected)
        self.frames.update(projected.frames)
        if (trades := projected.trade_rows()) is not None:
            self._scratch.insert("trades", columns_of(trades))
        if (letters := projected.letter_rows()) is not None:
            self._scratch.insert("letters", letters.select(["letter_id"]))
        for block in blocks:
            self._done += sum(map(len, block.payloads)) + _FRAME_OVERHEAD * len(block.payloads)
        self._progress(min(self._done, self._total), self._total)


def _silent(done: int, total: int) -> None:
    del done, total
