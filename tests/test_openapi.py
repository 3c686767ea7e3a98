"""The OpenAPI document: every row is complete, the document sound, and it is what is served."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast, get_args

import pytest
from pydantic import BaseModel

from admin import openapi
from admin.api.bodies import Query, Shown, Strict
from admin.api.operations import Operation, Surface
from admin.permit import ACTIONS
from admin.registry import SURFACES
from gateway import __version__
from tests.admin_serve import Admin
from tests.docs_tables import admin_routes

ROWS = [(surface, row) for surface, rows in SURFACES for row in rows]
DOCUMENT = openapi.document(SURFACES)
# Success per method; Cloudflare answers every success with 200, and so do some published DELETEs.
SUCCESSES = {200, 201, 204}


def flaws(surface: Surface, row: Operation) -> list[str]:
    """What a row lacks."""
    found = []
    if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", row.name):
        found.append("name")
    if len(row.summary) < 8 or row.summary.endswith(".") or len(row.summary) > 100:
        found.append("summary")
    if row.action not in ACTIONS:
        found.append("action")
    if len(row.answers) != 1 or not set(row.answers) <= SUCCESSES:
        found.append("answers")
    if [status for status, answer in row.answers.items() if not _tells(status, answer)]:
        found.append("answer's model")
    if row.body is not None and not issubclass(row.body, Strict):
        found.append("body")
    if row.body is None and row.method in ("PUT", "PATCH"):
        found.append("body")
    if row.query is not None and not issubclass(row.query, Query):
        found.append("query")
    if not set(row.refusals) <= set(openapi.WORDS):
        found.append("refusals")
    return found


def _tells(status: int, answer: object) -> bool:
    """Models of ours, lists of them and plain values say what is answered; Any does not."""
    if answer is None:
        return status in (200, 204)
    parts = [part for part in get_args(answer) if part is not type(None)] or [answer]
    plain = all(part in (str, bool, int) or isinstance(part, str) for part in parts)
    return plain or all(
        (isinstance(part, type) and issubclass(part, Shown)) or get_args(part) for part in parts
    )


@pytest.mark.parametrize(("surface", "row"), ROWS, ids=[row.name for _, row in ROWS])
def test_a_row_says_all_there_is_to_say(surface: Surface, row: Operation) -> None:
    assert flaws(surface, row) == []


def test_an_incomplete_row_is_noticed() -> None:
    surface, row = ROWS[0]
    bare = Operation("PUT", row.path, row.action, row.handler, "", "")
    assert flaws(surface, bare) == ["name", "summary", "answers", "body"]
    assert flaws(surface, replace(row, answers={200: dict[str, Any]})) == ["answer's model"]
    assert flaws(surface, replace(row, answers={200: Any})) == ["answer's model"]
    assert flaws(surface, replace(row, action=cast(Any, "fly"), refusals=(418,))) == [
        "action",
        "refusals",
    ]


def test_names_and_places_are_unique() -> None:
    names = Counter(row.name for _, row in ROWS)
    places = Counter((row.method, shape(openapi.documented(s, row))) for s, row in ROWS)
    assert [name for name, times in names.items() if times > 1] == []
    assert [place for place, times in places.items() if times > 1] == []


def shape(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def test_no_two_paths_differ_in_the_names_of_their_parameters_only() -> None:
    paths = list(DOCUMENT["paths"])
    assert len({shape(path) for path in paths}) == len(paths)


def test_every_operation_stands_in_the_document_under_its_surface() -> None:
    operations = [(path, *pair) for path, ms in DOCUMENT["paths"].items() for pair in ms.items()]
    assert len(operations) == len(ROWS)
    named = {said["operationId"]: (method, path, said) for path, method, said in operations}
    for surface, row in ROWS:
        method, path, said = named[row.name]
        assert (method.upper(), path) == (row.method, openapi.documented(surface, row))
        assert said["tags"] == [surface.name]
        assert f"`{row.action}`" in said["description"]
        written = {int(status) for status in said["responses"]}
        assert written == {*row.answers, *openapi.statuses(surface, row)}
        assert {401, 403, 503} <= written


def test_what_the_document_has_is_what_the_app_serves() -> None:
    served = admin_routes()
    documented = {
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    assert documented <= served
    # The rest are other spellings of the same, and what is for machines and people, not clients.
    apart = {path for _, path in served - documented}
    aliases = {path for path in apart if path.startswith("/accounts/")}
    aliases |= {path for path in apart if path.startswith("/llm-config")}
    assert {path for path in apart - aliases if not path.startswith("/docs")} <= {
        *("/livez", "/readyz", "/metrics", "/openapi.json", "/mcp"),
    }


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    used = {node["$ref"] for node in walk(DOCUMENT) if "$ref" in node}
    schemas = DOCUMENT["components"]["schemas"]
    assert used == {f"#/components/schemas/{name}" for name in schemas}


def test_schemas_have_names_that_clients_can_keep() -> None:
    # Two classes of one name would both get their module's name put before it.
    assert [name for name in DOCUMENT["components"]["schemas"] if not name.isalnum()] == []


def test_parameters_are_plain_and_path_parameters_complete() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for said in methods.values():
            named = [(one["in"], one["name"].lower()) for one in said["parameters"]]
            assert len(named) == len(set(named))
            within = {name for where, name in named if where == "path"}
            assert within == {name.lower() for name in openapi.parameters_of(path)}
            for one in said["parameters"]:
                assert one["schema"].get("type") != "object"
                assert "$ref" not in one["schema"]
                assert "null" not in json.dumps(one["schema"])


def test_the_document_says_where_idempotency_and_instances_are_heard() -> None:
    heard = {
        said["operationId"]: {one["name"] for one in said["parameters"] if one["in"] == "header"}
        for methods in DOCUMENT["paths"].values()
        for said in methods.values()
    }
    assert all("Wardgate-Scope" in names for names in heard.values())
    for surface, row in ROWS:
        assert ("X-Instance-Id" in heard[row.name]) == (surface.name == "LLM config")
        assert ("If-Match" in heard[row.name]) == (412 in row.refusals)
        keyed = surface.name == "Providers" and row.method != "GET"
        assert ("Idempotency-Key" in heard[row.name]) == keyed


def test_the_document_is_the_same_every_time_and_carries_the_version() -> None:
    assert json.dumps(openapi.document(SURFACES)) == json.dumps(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["info"]["version"] == __version__


def test_security_is_every_credential_the_surface_takes() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    for surface, row in ROWS:
        said = DOCUMENT["paths"][openapi.documented(surface, row)][row.method.lower()]
        headers = [
            "authorization" if one["type"] == "http" else one["name"].lower()
            for one in (schemes[name] for need in said["security"] for name in need)
        ]
        assert tuple(headers) == surface.credentials


def test_no_model_of_an_answer_has_room_for_what_it_does_not_name() -> None:
    def models(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
        for one in kind.__subclasses__():
            yield one
            yield from models(one)

    assert [m.__name__ for m in models(Shown) if m.model_config.get("extra") != "forbid"] == []


async def test_it_is_served_to_everybody(app: Admin) -> None:
    answer = await app.call("GET", "/openapi.json", token="")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == DOCUMENT
