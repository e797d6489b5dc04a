"""Books whose continuity broke while their connection goes on: which are asked for again, and when.

Pure, without clock and dice: it is told what broke and what arrived, and says what to ask for now.
Books that broke together are asked for together. While one is awaited nothing else about it
triggers anything; an answer that does not come, and one that breaks soon again, is asked for after
pauses that grow. A book that cannot be had so is a reason to end the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

TRIES = 10
FIRST_S = 2.0
LONGEST_S = 300.0
"""Ten tries take 13.5 minutes, and the last answer has 5 more: one book that cannot be had for ten
minutes costs the others nothing."""
_FIRST_NS, _LONGEST_NS = round(FIRST_S * 1e9), round(LONGEST_S * 1e9)


class _Broken(msgspec.Struct):
    """A book that is awaited, or came a short while ago."""

    due_ns: int
    """When it is asked for, if it has not come until then."""
    tries: int = 0
    arrived_ns: int | None = None
    """None: it is awaited."""


class Refetch:
    """The broken books of one connection. Times are nanoseconds that never go back.

    It holds a few numbers a book that is broken or was so a moment ago, and of others nothing.
    """

    def __init__(self) -> None:
        self._books: dict[str, _Broken] = {}
        self.exhausted: tuple[str, ...] = ()
        """Books that did not come, or not whole, however often they were asked for."""

    def broken(self, symbols: Iterable[str], now_ns: int) -> None:
        """Note that something may be missing of books, until they arrive anew.

        One that broke again so soon after it came that it may never have been whole is asked for
        when it would have been if it had not come.
        """
        for symbol in symbols:
            book = self._books.get(symbol)
            if book is None or _settled(book, now_ns):
                self._books[symbol] = _Broken(now_ns)
            else:
                book.arrived_ns = None

    def expected(self, symbols: Iterable[str], due_ns: int) -> None:
        """Note that books are to come unasked until a moment; they are broken if they do not."""
        for symbol in symbols:
            self._books.setdefault(symbol, _Broken(due_ns))

    def arrived(self, symbol: str, now_ns: int) -> None:
        """Note that a book has come whole, as far as can be seen; an empty one is one, too."""
        book = self._books.get(symbol)
        if book is None:
            return
        if book.tries:
            book.arrived_ns = now_ns
        else:
            del self._books[symbol]

    def forget(self, symbols: Iterable[str]) -> None:
        """Note that books are not wanted any more."""
        for symbol in symbols:
            self._books.pop(symbol, None)

    def due(self, now_ns: int) -> list[str]:
        """Return the books to ask for now, which counts as asked."""
        asked, exhausted = [], []
        for symbol, book in list(self._books.items()):
            if book.arrived_ns is not None:
                if _settled(book, now_ns):
                    del self._books[symbol]
            elif book.due_ns > now_ns:
                continue
            elif book.tries == TRIES:
                exhausted.append(symbol)
            else:
                asked.append(symbol)
                book.due_ns = now_ns + min(_FIRST_NS << book.tries, _LONGEST_NS)
                book.tries += 1
        self.exhausted = tuple(exhausted)
        return asked

    def __len__(self) -> int:
        """How many books it holds anything of."""
        return len(self._books)


def _settled(book: _Broken, now_ns: int) -> bool:
    """Return whether a book that came stayed whole for a while."""
    return book.arrived_ns is not None and now_ns - book.arrived_ns >= _FIRST_NS
