"""Frames to rows and coverage: a pure projection that can be repeated over any journal part.

It is :func:`~forebay.services.normalise.normalise`, then ordinals, then the
:class:`~forebay.services.coverage_book.CoverageBook`, batch by batch.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from forebay.services.coverage_book import CoverageBook, Projected, declared
from forebay.services.normalise import batches_of, normalise
from forebay.services.ordinals import OrdinalAssigner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.domain.frames import FrameBatch
    from forebay.ports import Parser
    from forebay.services.normalise import Normalised

__all__ = ["Projected", "Projection", "batches_of"]


class Projection:
    """Projects frames on top of the coverage so far; nothing changes until :meth:`adopt`."""

    def __init__(
        self,
        parsers: Mapping[str, Parser],
        coverage: Mapping[StreamKey, Coverage],
        ordinals: Mapping[StreamKey, bytes] = MappingProxyType({}),
    ) -> None:
        self._parsers = parsers
        self._ordinals = OrdinalAssigner(ordinals)
        self._book = CoverageBook(declared(parsers), coverage)

    @property
    def coverage(self) -> Mapping[StreamKey, Coverage]:
        """Coverage of every stream, as of what was adopted."""
        return self._book.coverage

    def project(self, batches: Iterable[FrameBatch]) -> Projected:
        """Return rows, dead letters and new coverage of ``batches``."""
        out = Projected(ordinals=self._ordinals.changed())

        def numbered() -> Iterator[Normalised]:
            for batch in batches:
                told = normalise(batch, self._parsers)
                self._ordinals.number(batch, told, out.ordinals)
                yield told

        return self._book.enter(numbered(), out)

    def adopt(self, projected: Projected) -> None:
        """Take over the coverage and ordinals of what has been stored."""
        self._book.adopt(projected)
        self._ordinals.adopt(projected.ordinals)

    def begin_again(self) -> None:
        """Count ordinals from 0: frames that were counted will be read once more."""
        self._ordinals.begin_again()
