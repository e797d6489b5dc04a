"""The words of the glossary are the words of the pages, and more and more those of the code."""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.pages import ROOT, page, prose, section, table, ticked

if TYPE_CHECKING:
    from collections.abc import Iterator

GLOSSARY = page("glossary")
UNUSED = section(GLOSSARY, "Not used")
WORDS = [ticked(row[0])[0] for row in table(UNUSED, "not", "but")]
OLD_NAMES = {ticked(row[0])[0] for row in table(UNUSED, "old name", "name")}
PAGES = ["README.md", *(f"docs/{name}.md" for name in ("explanation/coverage", "how-to/operate"))]
WHERE = sorted((ROOT / "src" / "forebay").rglob("*.py"))


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Texts that stand by themselves: of modules, classes, functions and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


def uses(text: str, word: str) -> bool:
    if word == "answer":
        return text.startswith("Answer ")
    return re.search(rf"\b{word}s?\b", text, re.IGNORECASE) is not None


@pytest.mark.parametrize("name", PAGES)
def test_a_page_uses_no_word_that_is_not_used(name: str) -> None:
    text = prose((ROOT / name).read_text(encoding="utf-8"))
    assert [word for word in WORDS if word != "answer" and uses(text, word)] == []


def test_no_docstring_uses_one() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in WHERE]
    texts = [text for tree in trees for text in docstrings(tree)]
    used = Counter(word for text in texts for word in WORDS if uses(text, word))
    assert used == {}


def test_no_class_gets_an_old_name() -> None:
    defined = {
        node.name
        for path in WHERE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    assert OLD_NAMES & defined == set()


def test_a_word_has_one_meaning_a_section() -> None:
    """And only ``open`` has two in all: of a gap, and of a breaker."""
    words = Counter(row[0] for row in _rows())
    assert {word for word, count in words.items() if count > 1} == {"open"}


def _rows() -> Iterator[list[str]]:
    for heading in re.findall(r"^## (.+)$", GLOSSARY, re.MULTILINE):
        if heading != "Not used":
            yield from table(section(GLOSSARY, heading), "word", "means")
