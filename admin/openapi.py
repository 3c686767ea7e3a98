"""The OpenAPI 3.1 document, made from the registry's rows. Pure: no request, no desk.

Kept to what client generators understand: one schema per model under its own name, parameters and
answers written out, nothing inlined twice. Served by viewer/pages.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from admin.api.credentials import BEARER
from admin.api.operations import Header, Operation, Surface
from gateway import __version__

Json = dict[str, Any]
_Key = tuple[str, str]  # operationId or surface, and which part of it

_REF = "#/components/schemas/{model}"
_ABOUT = (
    "One store of provider keys behind several published API shapes: a config written through any "
    "of them is visible through all. No answer ever contains a provider's key, only its preview."
)
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_PAGED = re.compile(r"^Paged\[(\w+)\]$")
WORDS = {
    400: "The request will not do; nothing was changed",
    401: "No admin token, or one that is unknown",
    403: "The token does not hold the permission, or not for this",
    404: "There is nothing under this name, or nothing this token may see",
    408: "The body did not arrive in time",
    409: "Something that is there stands in the way",
    412: "It has changed since the ETag in If-Match was read",
    413: "The body is larger than 1 MiB",
    422: "The body or the query will not do, or the provider refused the key",
    502: "The provider could not be asked, or gave no answer of use",
    503: "The store cannot be reached",
}
_IF_MATCH = Header("If-Match", "The ETag of the object as it was read; 412 where it has changed.")
_SCHEMES: dict[str, Json] = {
    BEARER: {"type": "http", "scheme": "bearer", "description": "An admin token, `wga_…`."},
    "x-auth-key": {"type": "apiKey", "in": "header", "name": "X-Auth-Key"},
    "x-auth-user-service-key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Auth-User-Service-Key",
    },
}
_SCHEME_NAMES = {BEARER: "bearer", "x-auth-key": "key", "x-auth-user-service-key": "serviceKey"}


class _Plain(GenerateJsonSchema):
    """Without a title on every field, which says what its name says; a page of X is XPage."""

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(_PAGED.sub(r"\1Page", name))

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def document(surfaces: Sequence[tuple[Surface, Sequence[Operation]]]) -> Json:
    """The whole document; the same rows make the same document."""
    parts, definitions = _schemas(surfaces)
    paths: dict[str, Json] = {}
    for surface, row in _rows(surfaces):
        described = _operation(surface, row, parts)
        paths.setdefault(documented(surface, row), {})[row.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "Wardgate", "version": __version__, "description": _ABOUT},
        "tags": [_tag(surface) for surface, _ in surfaces],
        "paths": paths,
        "components": {"schemas": definitions, "securitySchemes": _schemes(surfaces)},
    }


def documented(surface: Surface, row: Operation) -> str:
    """The path under which a row stands in the document: the first mount's."""
    return _PARAMETER.sub(r"{\1}", (row.mounts or surface.mounts)[0] + row.path)


def parameters_of(path: str) -> list[str]:
    """The names in a path, in Starlette's notation or the document's."""
    return _PARAMETER.findall(path)


def statuses(surface: Surface, row: Operation) -> list[int]:
    """Every status that refuses: the row's own and those that any such row can end with."""
    found = {*surface.invalid, 401, 403, 503, *row.refusals}
    found |= {404} if parameters_of(row.path) else set()
    found |= {408, 413} if row.body else set()
    return sorted(found)


def _rows(
    surfaces: Sequence[tuple[Surface, Sequence[Operation]]],
) -> Iterator[tuple[Surface, Operation]]:
    return ((surface, row) for surface, rows in surfaces for row in rows)


def _schemas(
    surfaces: Sequence[tuple[Surface, Sequence[Operation]]],
) -> tuple[dict[tuple[_Key, JsonSchemaMode], Json], dict[str, Json]]:
    """The schema of every body, answer and refusal, and the models they refer to, by name."""
    inputs: list[tuple[_Key, JsonSchemaMode, TypeAdapter[Any]]] = []
    for surface, _ in surfaces:
        inputs.append(((surface.name, "error"), "serialization", TypeAdapter(surface.error)))
    for _, row in _rows(surfaces):
        if row.body is not None:
            inputs.append(((row.name, "body"), "validation", TypeAdapter(row.body)))
        for status, answer in row.answers.items():
            if answer is not None:
                shown = TypeAdapter(cast(Any, answer))
                inputs.append(((row.name, str(status)), "serialization", shown))
    found, rest = TypeAdapter.json_schemas(inputs, ref_template=_REF, schema_generator=_Plain)
    named: dict[str, Json] = rest.get("$defs", {})
    for schema in named.values():
        schema.pop("title", None)
    return dict(found), dict(sorted(named.items()))


def _operation(
    surface: Surface, row: Operation, parts: dict[tuple[_Key, JsonSchemaMode], Json]
) -> Json:
    described: Json = {
        "operationId": row.name,
        "tags": [surface.name],
        "summary": row.summary,
        "description": _description(row),
        "parameters": [*_path(row), *_query(row.query), *_headers(surface, row)],
        "responses": {},
        "security": [{_SCHEME_NAMES[name]: []} for name in surface.credentials],
    }
    if row.body is not None:
        schema = parts[(row.name, "body"), "validation"]
        described["requestBody"] = {"required": True, "content": _content(schema)}
    for status, answer in row.answers.items():
        told: Json = {"description": HTTPStatus(status).phrase}
        if answer is not None:
            told["content"] = _content(parts[(row.name, str(status)), "serialization"])
        described["responses"][str(status)] = told
    error = _content(parts[(surface.name, "error"), "serialization"], surface.media_type)
    for status in statuses(surface, row):
        described["responses"][str(status)] = {"description": WORDS[status], "content": error}
    return described


def _description(row: Operation) -> str:
    said = (row.query.__doc__ or "") if row.query is not None else ""
    needs = f"Needs `{row.action}`."
    return " ".join([*said.split(), needs])


def _content(schema: Json, media_type: str = "application/json") -> Json:
    return {media_type: {"schema": schema}}


def _path(row: Operation) -> list[Json]:
    text = {"type": "string", "minLength": 1}
    return [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in parameters_of(row.path)
    ]


def _query(model: type[BaseModel] | None) -> list[Json]:
    if model is None:
        return []
    schema = model.model_json_schema(schema_generator=_Plain)
    assert "$defs" not in schema, f"{model.__name__}: a query holds plain values"
    return [
        {"name": name, "in": "query", "required": False, "schema": _sent(field)}
        for name, field in schema["properties"].items()
    ]


def _sent(field: Json) -> Json:
    """The schema of what a URL can say: null is leaving it out."""
    kept = {name: value for name, value in field.items() if (name, value) != ("default", None)}
    some = [one for one in kept.pop("anyOf", []) if one != {"type": "null"}]
    return {**kept, **some[0]} if len(some) == 1 else {**kept, **({"anyOf": some} if some else {})}


def _headers(surface: Surface, row: Operation) -> list[Json]:
    read = [one for one in surface.headers if not one.methods or row.method in one.methods]
    if HTTPStatus.PRECONDITION_FAILED in row.refusals:
        read.append(_IF_MATCH)
    return [
        {
            "name": one.name,
            "in": "header",
            "required": False,
            "description": one.about,
            "schema": {"type": "string", **({"pattern": one.pattern} if one.pattern else {})},
        }
        for one in read
    ]


def _tag(surface: Surface) -> Json:
    first, *others = surface.mounts
    said = surface.about
    for other in others:
        said += f" Served without `{first}`, too." if not other else f" Served at `{other}`, too."
    return {"name": surface.name, "description": said}


def _schemes(surfaces: Sequence[tuple[Surface, Sequence[Operation]]]) -> dict[str, Json]:
    used = {name for surface, _ in surfaces for name in surface.credentials}
    return {_SCHEME_NAMES[name]: scheme for name, scheme in _SCHEMES.items() if name in used}
