"""The page at /docs: strict about where it loads from, complete, and what it sends is answered."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from admin import openapi
from admin.registry import SURFACES
from admin.viewer import pages
from tests.admin_serve import Admin
from tests.servers import program

FOLDER = Path(pages.__file__).parent
DRIVER = Path(__file__).parent / "viewer.mjs"
DOCUMENT = openapi.document(SURFACES)
ROWS = [(surface, row) for surface, rows in SURFACES for row in rows]
FILES = [path for path in FOLDER.iterdir() if path.suffix in (".html", ".css", ".mjs")]
in_module = pytest.mark.asyncio(loop_scope="module")


async def drive(app: Admin, *, find: str = "", **sends: dict[str, str]) -> dict[str, Any]:
    """What node saw on the page, after `sends` (operation -> values of its fields) were sent."""
    orders = json.dumps({"token": app.root, "sends": sends, "find": find})
    process = await asyncio.create_subprocess_exec(
        program("node", "nodejs"),
        *(str(DRIVER), str(FOLDER), app.url, orders),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    seen: dict[str, Any] = json.loads(out)
    return seen


@in_module
async def test_page_and_parts_are_served_to_everybody_under_a_strict_policy(
    shared: Admin,
) -> None:
    for path, kind in {"": "text/html", **{f"/{n}": t for n, t in pages.PARTS.items()}}.items():
        answer = await shared.call("GET", f"/docs{path}", token="")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"https?:|\*|data:", policy)
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await shared.call("GET", "/docs/pages.py")).status_code == 404
    assert (await shared.call("GET", "/docs/..%2fpages.py")).status_code == 404


@in_module
async def test_only_the_page_may_load_anything(shared: Admin) -> None:
    for path in ("/openapi.json", "/api/v1/audit", "/nowhere"):
        policy = (await shared.call("GET", path)).headers["content-security-policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"


def test_every_file_beside_the_page_is_served() -> None:
    assert {path.name for path in FILES} == {"page.html", *pages.PARTS}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_nothing_is_inline_and_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"https?://|@import|\burl\(|//[a-z0-9-]+\.[a-z]", text)
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|javascript:", text)
    # Markup made of what a provider or a stored name says would run in the admin's browser.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
    assert not re.search(r"localStorage|sessionStorage|document\.cookie", text)


def test_what_the_page_refers_to_is_there() -> None:
    page = (FOLDER / "page.html").read_text()
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert set(loaded) == {"docs/page.css", "docs/page.mjs", "openapi.json"}
    script = (FOLDER / "page.mjs").read_text()
    imported = re.findall(r'from "\./([^"]+)"', script)
    assert {"page.css", "page.mjs", *imported} == set(pages.PARTS)
    named = set(re.findall(r'\bat\("(\w+)"\)', script))
    assert named == set(re.findall(r'\bid="(\w+)"', page))


async def test_every_operation_is_shown_and_what_is_sent_is_answered(app: Admin) -> None:
    seen = await drive(
        app,
        find="client-KEYS",
        createClientKey={"body": '{"name": "it\'s mine"}'},
        getAiProvider={"providerId": "openai", "scope": "global"},
        listScopes={"limit": "nonsense"},
        getRoute={},
    )
    assert seen["version"] == DOCUMENT["info"]["version"]
    assert set(seen["operations"]) == {row.name for _, row in ROWS}
    for surface, row in ROWS:
        text = seen["operations"][row.name]
        assert openapi.documented(surface, row) in text
        assert row.summary in text
        assert row.action in text
        assert all(f"{status} " in text for status in openapi.statuses(surface, row))
    assert set(seen["found"]) == {row.name for _, row in ROWS if "client-keys" in row.path}
    command, answer = seen["sent"]["createClientKey"][:2]
    assert app.root not in command
    assert "authorization: Bearer $TOKEN" in command
    assert "'\\''" in command
    assert json.loads(answer)["key"].startswith("wg_")
    assert json.loads(seen["sent"]["getAiProvider"][1])["name"] == "OpenAI"
    assert json.loads(seen["sent"]["listScopes"][1])["status"] == 400
    assert seen["sent"]["getRoute"][0] == "id is missing"


@in_module
async def test_the_example_of_every_body_fits_its_schema(shared: Admin) -> None:
    samples = (await drive(shared))["samples"]
    bodies = [(surface, row) for surface, row in ROWS if row.body is not None]
    assert len(samples) == len(bodies)
    for surface, row in bodies:
        path, method = openapi.documented(surface, row), row.method.lower()
        said = DOCUMENT["paths"][path][method]["requestBody"]
        schema = {
            **said["content"]["application/json"]["schema"],
            "components": DOCUMENT["components"],
        }
        jsonschema_rs.validate(schema, samples[f"{method} {path}"])
