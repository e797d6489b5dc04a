"""Coinbase Exchange, simulated: the public feed's trades, their REST history, and the truth."""
