"""A websocket client that captures whatever a venue sends and knows no venue.

==============  ==========================================================
``feeds``       all connections of a source, which share its symbols; awaits
``lots``        which streams are asked for together, and which alone; pure
``feed``        keeps one connection up for ever; awaits
``upgrade``     from an address to an upgraded connection; awaits
``connection``  the callbacks between the driver and the sink
``splitter``    the quick way for plain messages, in front of the driver
``messages``    from frames to whole messages; pure
``timeouts``    whether a connection should go on; pure
==============  ==========================================================
"""

from forebay.sources.websocket.feed import WebSocketFeed
from forebay.sources.websocket.feeds import Feeds
from forebay.sources.websocket.timeouts import Timeouts
from forebay.sources.websocket.upgrade import ConnectionPlan

__all__ = ["ConnectionPlan", "Feeds", "Timeouts", "WebSocketFeed"]
