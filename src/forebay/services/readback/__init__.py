"""Reading back: what the lanes of a transport hold, against the journal that was told to them.

The journal is compared in stretches of frames. Of each stretch and lane both sides have a digest of
their *tellings*, an event as one frame told it; only where those differ are single events looked
at. Memory is bounded by the number of stretches, and by the rows of some of them.
"""

from forebay.services.readback.findings import Findings, LaneFindings, StreamFindings
from forebay.services.readback.mending import Mending, SharedTransport
from forebay.services.readback.run import Published, TransportStage, read_back

__all__ = [
    "Findings",
    "LaneFindings",
    "Mending",
    "Published",
    "SharedTransport",
    "StreamFindings",
    "TransportStage",
    "read_back",
]
