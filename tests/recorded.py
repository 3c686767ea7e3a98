"""The exchanges of real clients in tests/wire, as bytes a test can feed to something."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.shapes import Headers

WIRE = Path(__file__).parent / "wire"


@dataclass(frozen=True)
class Recorded:
    """One request and the answer the client was content with. Header names are lower case."""

    name: str
    method: str
    path: bytes
    query: bytes
    headers: Headers
    body: bytes
    sent: Any  # the request's JSON
    status: int
    kind: str
    answer: bytes


def recorded(*folders: str) -> Iterator[Recorded]:
    """All exchanges, or those of some clients."""
    for file in sorted(WIRE.glob("*/*.json")):
        if not folders or file.parent.name in folders:
            yield _read(file)


def one(name: str) -> Recorded:
    return _read(WIRE / f"{name}.json")


def _read(file: Path) -> Recorded:
    raw = json.loads(file.read_text())
    request, response = raw["request"], raw["response"]
    return Recorded(
        name=f"{file.parent.name}/{file.stem}",
        method=request["method"],
        path=request["path"].encode(),
        query=request["query"].encode(),
        headers=[(n.lower().encode(), v.encode()) for n, v in request["headers"]],
        body=_body(request["body"]),
        sent=(request["body"] or {}).get("json"),
        status=response["status"],
        kind=response["content_type"],
        answer=_body(response["body"]),
    )


def _body(message: dict[str, Any] | None) -> bytes:
    if message is None:
        return b""
    if "json" in message:
        return json.dumps(message["json"]).encode()
    if "b64" in message:
        return base64.b64decode(message["b64"])
    return str(message.get("text", "")).encode()
