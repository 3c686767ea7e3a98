"""The exchanges on the pages of docs/surfaces, run as they stand: each request gets that answer.

An exchange is a fence of `http`: a request line, headers, a JSON body; an empty line; the status
and the JSON of the answer. Ids and times are other ones. `{bedrock}` is a connection's id.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from admin.demo.upstream import Upstream
from tests.admin_serve import Admin
from tests.backends import Backend
from tests.connecting import AWS, config, made, reaching
from tests.docs_tables import ROOT
from tests.probing import models

EXCHANGE = re.compile(r"```http\n(.*?)\n\n(\d{3})(?:\n(.*?))?\n```", re.DOTALL)
PAGES = [ROOT / "docs/surfaces" / name for name in ("connections.md", "llm-config.md")]
_OTHER = {"id", "dateCreated", "dateModified", "created_at", "updated_at"}


@dataclass(frozen=True)
class Exchange:
    """What is sent, and what comes back."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    status: int
    answer: Any


def exchanges(page: Path) -> list[Exchange]:
    text = page.read_text()
    found = [_read(*hit.groups()) for hit in EXCHANGE.finditer(text)]
    assert len(found) == text.count("```http") > 3
    return found


def _read(request: str, status: str, answer: str | None) -> Exchange:
    head, brace, body = request.partition("\n{")
    first, *lines = head.splitlines()
    method, path = first.split(" ")
    headers = dict(line.split(": ") for line in lines)
    sent = json.loads(brace + body) if brace else None
    return Exchange(method, path, headers, sent, int(status), json.loads(answer or "null"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_exchanges_go_as_the_page_says(page: Path, backend: Backend) -> None:
    listed = models("gpt-4o", "text-embedding-3-small", "claude-sonnet-4-20250514")
    async with Upstream(listed) as upstream, reaching(backend, upstream) as app:
        bedrock = await _stage(app)
        for one in exchanges(page):
            path = one.path.replace("{bedrock}", bedrock)
            answer = await app.call(one.method, path, one.body, headers=one.headers)
            assert (answer.status_code, plain(answer.json())) == (one.status, plain(one.answer))


async def _stage(app: Admin) -> str:
    """What the pages take for granted: an alias of two providers, credentials of AWS."""
    await config(app, "default", "openai")
    await config(app, "default", "anthropic")
    shown = await made(app, "aws", providerId="amazon-bedrock", settings=AWS)
    return str(shown["id"])


def plain(shown: Any) -> Any:
    if not isinstance(shown, dict):
        return shown
    return {name: "…" if name in _OTHER else value for name, value in shown.items()}
