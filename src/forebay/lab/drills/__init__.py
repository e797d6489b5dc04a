"""Scripted failures of the real processes, with an audit at the end."""
