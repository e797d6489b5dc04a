"""ClickHouse: columns on a server."""
