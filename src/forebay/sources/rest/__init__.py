"""A REST client that somebody waits for: tried again, paced, behind a breaker."""

from forebay.sources.rest.client import ComeAgain, RestAnswer, RestClient, RestPolicy

__all__ = ["ComeAgain", "RestAnswer", "RestClient", "RestPolicy"]
