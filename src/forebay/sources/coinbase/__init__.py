"""Coinbase Exchange: spot trades by websocket, history by REST."""
