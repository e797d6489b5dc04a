"""A REST client that somebody waits for: tried again, paced, signed, behind a breaker."""

from forebay.sources.rest.budget import Budget, Budgets
from forebay.sources.rest.client import RestAnswer, RestClient, RestPolicy, RetryLater, parse_base

__all__ = [
    "Budget",
    "Budgets",
    "RestAnswer",
    "RestClient",
    "RestPolicy",
    "RetryLater",
    "parse_base",
]
