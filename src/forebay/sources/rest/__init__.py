"""A REST client that somebody waits for: tried again, paced, signed, behind a breaker."""

from forebay.sources.rest.budget import Budget, Budgets
from forebay.sources.rest.client import ComeAgain, RestAnswer, RestClient, RestPolicy, parse_base

__all__ = [
    "Budget",
    "Budgets",
    "ComeAgain",
    "RestAnswer",
    "RestClient",
    "RestPolicy",
    "parse_base",
]
