"""Simulators, one package per venue; each speaks the venue's real protocol over real sockets."""
