"""A websocket client that captures whatever a venue sends and knows no venue.

From the outside in: ``feeds`` (with ``lots``), ``feed``, ``upgrade``, ``connection`` (with
``timeouts`` and ``messages``), ``splitter``.
"""

from forebay.sources.websocket.feed import WebSocketFeed
from forebay.sources.websocket.feeds import Feeds
from forebay.sources.websocket.timeouts import Timeouts
from forebay.sources.websocket.upgrade import ConnectionPlan

__all__ = ["ConnectionPlan", "Feeds", "Timeouts", "WebSocketFeed"]
