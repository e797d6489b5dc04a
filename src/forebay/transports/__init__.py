"""Transports: what carries events between processes."""
