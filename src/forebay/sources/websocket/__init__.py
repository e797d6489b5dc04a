"""A websocket client that captures whatever a venue sends and knows no venue.

================  ========================================================
``feeds``         all connections of a source, which share its symbols; awaits
``lots``          which streams are asked for together, and which alone; pure
``feed``          keeps one connection up for ever; awaits
``trial``         what a connection says about its venue, to a breaker
``upgrade``       from an address to an upgraded connection; awaits
``connection``    the callbacks between the driver and the sink
``splitter``      the quick way for plain messages, in front of the driver
``messages``      from frames to whole messages; pure
``liveness``      whether a connection should go on; pure
``subscription``  which streams are accepted or refused; pure
``plan``          what to connect to and who talks there
================  ========================================================
"""

from forebay.sources.websocket.feed import WebSocketFeed
from forebay.sources.websocket.feeds import Feeds
from forebay.sources.websocket.plan import ConnectionPlan
from forebay.sources.websocket.timeouts import Timeouts

__all__ = ["ConnectionPlan", "Feeds", "Timeouts", "WebSocketFeed"]
