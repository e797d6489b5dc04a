"""The routes as one table, from which requests are routed and the OpenAPI document is made."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from forebay.field_texts import field_texts
from forebay.ops import schema, view
from forebay.ops.calls import JSON, Response
from forebay.ops.schema import ConfigureBody, ErrorBody, RequestBody

ADMIN = "/admin/"
_AWAY = 503
_COMPONENT = "#/components/schemas/{name}"
_TOKEN = {"type": "http", "scheme": "bearer", "description": "The text in http.token_file."}


@dataclass(frozen=True)
class Route:
    """One route; ``handle`` takes the call, what the path names and, if there is one, the body."""

    method: str
    path: str
    handle: Callable[..., Awaitable[Response]]
    returns: type | str
    """What is answered as JSON, or the type of the content."""
    codes: Mapping[int, str]
    """Errors, and what they mean."""
    ailing: bool = False
    """Whether a body of ``returns`` comes with 503, too."""
    takes: type[RequestBody] | None = None
    required: bool = False
    """Whether the body may not be left out."""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What a path must be whole."""
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.path)), re.DOTALL)


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """Return the OpenAPI document."""
    kinds = [each for route in routes for each in (route.returns, route.takes)]
    types = {ErrorBody, *(each for each in kinds if isinstance(each, type))}
    named = sorted(types, key=lambda each: each.__name__)
    _, components = msgspec.json.schema_components(named, ref_template=_COMPONENT)
    for name, component in components.items():
        _describe(name, component)
    thresholds = [{"required": [name]} for name in ConfigureBody.__struct_fields__]
    components[ConfigureBody.__name__]["anyOf"] = thresholds[1:]  # the reason is none
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Forebay",
            "summary": "Health, metrics and administration of one system.",
            "version": version,
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"HTTPBearer": _TOKEN}},
    }


def _reference(found: type) -> dict[str, str]:
    return {"$ref": _COMPONENT.format(name=found.__name__)}


def _operation(route: Route) -> dict[str, Any]:
    error = _reference(ErrorBody)
    kind, shown = route.returns, {"type": "string"}
    if isinstance(route.returns, type):
        kind, shown = JSON, _reference(route.returns)
    responses = {"200": {"description": "It is so.", "content": {kind: {"schema": shown}}}}
    for code, meaning in sorted(route.codes.items()):
        either = {"anyOf": [shown, error]} if route.ailing and code == _AWAY else error
        content = {JSON: {"schema": either}}
        responses[str(code)] = {"description": meaning, "content": content}
    found: dict[str, Any] = {
        "operationId": route.handle.__name__,
        "description": inspect.getdoc(route.handle),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in route.pattern.groupindex
        ],
        "responses": responses,
    }
    if route.path.startswith(ADMIN):
        found |= {"tags": ["admin"], "security": [{"HTTPBearer": []}]}
    if route.takes is not None:
        taken = _reference(route.takes)
        either = taken if route.required else {"anyOf": [taken, {"type": "null"}]}
        found["requestBody"] = {"required": route.required, "content": {JSON: {"schema": either}}}
    return found


def _describe(name: str, component: dict[str, Any]) -> None:
    """Say of each field what the text below it in the source says."""
    kind = getattr(schema, name, None) or getattr(view, name, None)
    with contextlib.suppress(OSError):  # an installation without the source
        for each in reversed(kind.__mro__ if isinstance(kind, type) else ()):
            texts = field_texts(each) if each.__module__.startswith("forebay.") else {}
            for field, text in texts.items():
                component["properties"][field]["description"] = text
