"""Rolls that depend on nothing but what is asked, so that any event's fate is known in advance."""

from __future__ import annotations

import hashlib

_WORD = 8  # bytes of one number
_WORDS = 8  # numbers of one throw


class Dice:
    """Seeded dice for several faults at once: one throw is one hash.

    Args:
        seed: the simulator's.
        probabilities: 0 to 1, one for each of at most seven faults. A fault's place decides
            which number it gets, so the probability of one does not change another.
    """

    def __init__(self, seed: int, probabilities: list[float]) -> None:
        self._limits = [
            (fault, int(probability * (1 << 64)))
            for fault, probability in enumerate(probabilities)
            if probability
        ]
        self._base = hashlib.blake2b(f"{seed}|faults|".encode(), digest_size=_WORD * _WORDS)

    def throw(self, name: str, index: int) -> tuple[int, int] | None:
        """Place of the first fault that strikes here and a number for its details, or None."""
        if not self._limits:
            return None
        dice = self._base.copy()
        dice.update(f"{name}|{index}".encode())
        digest = dice.digest()
        for fault, limit in self._limits:
            at = fault * _WORD
            if int.from_bytes(digest[at : at + _WORD], "big") < limit:
                return fault, int.from_bytes(digest[-_WORD:], "big")
        return None
