"""Kalshi."""
