"""What a class says of its fields: the text below each, read from the source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise


def field_texts(kind: type) -> dict[str, str]:
    """Return, by field, the text below it, as one line; of an inherited one that of its class.

    Raises :class:`OSError` if the source is not there.
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if "__annotations__" in vars(each):
            found |= _own_texts(each)
    return found


def _own_texts(kind: type) -> dict[str, str]:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    found: dict[str, str] = {}
    for line, below in pairwise(node.body if isinstance(node, ast.ClassDef) else ()):
        match line, below:
            case (
                ast.AnnAssign(target=ast.Name(id=field)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[field] = " ".join(text.split())
    return found
