"""docs/reference/http.md says what the OpenAPI document says."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from forebay.ops import admin, api, guard, server
from forebay.ops.schema import ConfigureBody, HealthBody
from forebay.ops.view import Check
from tests.support.fake_system import Site

PAGE = (Path(__file__).resolve().parents[3] / "docs/reference/http.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = asyncio.run(described())
    return found


async def described() -> dict[str, Any]:
    async with Site().client() as client:
        return dict((await client.get("/openapi.json")).json())


def test_the_page_lists_every_route_with_its_codes(document: dict[str, Any]) -> None:
    rows = dict(re.findall(r"^\| `([A-Z]+ /[^`]*)` \| [^|]+ \| ([0-9 ]+) \|$", PAGE, re.MULTILINE))
    assert rows == {
        f"{method.upper()} {path}": " ".join(sorted(operation["responses"]))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def test_the_page_lists_the_fields_of_the_summary_in_their_order() -> None:
    part = PAGE.partition("## The summary")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
    assert sorted(named) == sorted(HealthBody.__struct_fields__)
    for field in dataclasses.fields(Check):
        assert f"`{field.name}`" in part


def test_the_page_names_every_word_of_an_error() -> None:
    words = set()
    for module in (guard, admin, api):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        words |= set(re.findall(r'RequestRefused\(\s*\S+?,\s*"([a-z-]+)"', source))
    assert len(words) > 10
    missing = [word for word in words if f"`{word}`" not in PAGE]
    assert missing == []


def test_the_page_says_the_limits_that_hold(document: dict[str, Any]) -> None:
    for text in (
        f"{guard.BODY_LIMIT >> 10} KiB",
        f"{guard.GUESSES} wrong tokens within {guard.GUESS_WINDOW_S} s",
        f"within {api.REPORT_S:.0f} s",
        f"end within {admin.COMMAND_S:.0f} s",
        f"lasts {server.REQUEST_S:.0f} s at most",
        f"From {server.CONNECTIONS} connections",
        f"waits {server.STOP_S} s",
    ):
        assert text in re.sub(r"\s+", " ", PAGE), text
    settings = document["components"]["schemas"]["ConfigureBody"]["properties"]
    for name, field in settings.items():
        if name == "reason":
            continue
        lowest = f"{field['minimum']:.0f}" if "minimum" in field else "above 0,"
        highest = field["maximum"]
        assert f"`{name}` ({lowest} to {highest:.0f})" in PAGE


def test_a_command_ends_before_its_connection_does() -> None:
    waits = server.FORGET_S + api.REPORT_S
    assert admin.COMMAND_S + waits < server.REQUEST_S


def test_administration_is_documented_as_needing_the_token(document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"]["HTTPBearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) is path.startswith("/admin/"), path


def test_every_error_is_documented_in_the_one_shape(document: dict[str, Any]) -> None:
    told = {"$ref": "#/components/schemas/ErrorBody"}
    assert document["components"]["schemas"]["ErrorBody"]["required"] == [
        "error",
        "message",
        "hint",
    ]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for code, response in operation["responses"].items():
                if code == "200":
                    continue
                (kind,) = response["content"]
                schema = response["content"][kind]["schema"]
                assert kind == "application/json"
                assert schema == told or schema.get("anyOf", [None])[-1] == told, (path, code)


def test_all_that_is_referred_to_is_there(document: dict[str, Any]) -> None:
    names = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert names <= document["components"]["schemas"].keys()
    assert ConfigureBody.__name__ in names


def test_every_route_and_field_says_what_it_is(document: dict[str, Any]) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["description"]
    fields = document["components"]["schemas"]["BreakerReport"]["properties"]
    assert fields["failure_count"]["description"] == "Consecutive failures."
