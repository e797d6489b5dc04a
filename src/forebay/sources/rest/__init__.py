"""A REST client that somebody waits for: paced, bounded in tries, time and size."""

from forebay.sources.rest.client import RestAnswer, RestClient, RestPolicy

__all__ = ["RestAnswer", "RestClient", "RestPolicy"]
