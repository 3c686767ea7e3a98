"""One request to the demo provider, read, and the two forms an answer takes: JSON or a stream.

No provider's shapes here. Called by the files that know them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, cast
from uuid import uuid4

from admin.demo.script import Pair, Received, Script

SENTENCE = (
    "Hello from the demo upstream! Your request came through, and this answer is made up. "
    "Add a provider's key when you want a real model."
)
EPOCH = 1_763_600_000
"""When the demo's models and files were made, in unix seconds."""


@dataclass(frozen=True)
class Ask:
    """A request whose credential was accepted. `body` is {} where there is no JSON; `length` is
    the number of words the client ordered; `parts` what the path's pattern caught.
    """

    received: Received
    body: Mapping[str, Any]
    model: str
    parts: Mapping[str, str]
    length: int | None = None

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def words(self) -> list[str]:
        """The answer, word by word; joined they are a sentence."""
        return _words(self.length)

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def tokens_in(self) -> int:
        """A made-up count that only depends on the request's size."""
        return max(1, len(self.received.data) // 4)

    @property
    def tokens_out(self) -> int:
        return len(self.words)


Handler = Callable[[Ask], Script]


def _words(length: int | None) -> list[str]:
    words = SENTENCE.split(" ")
    chosen = words if length is None else list(islice(cycle(words), length))
    return [*(word + " " for word in chosen[:-1]), chosen[-1]]


def new_id(prefix: str) -> str:
    return f"{prefix}{uuid4().hex[:24]}"


def packed(value: object) -> bytes:
    """JSON without blanks, as providers put it into streams."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def in_json(value: object, status: int = 200, headers: Iterable[Pair] = ()) -> Script:
    head = [(b"content-type", b"application/json"), *headers]
    return Script(status=status, headers=head, body=json.dumps(value, indent=2).encode())


def in_stream(events: Iterable[bytes], headers: Iterable[Pair] = ()) -> Script:
    """A chunked event stream, one chunk per event."""
    head = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        *headers,
    ]
    return Script(headers=head, chunks=list(events), framing="chunked")


def in_bytes(data: bytes, content_type: bytes, headers: Iterable[Pair] = ()) -> Script:
    return Script(headers=[(b"content-type", content_type), *headers], body=data)


def example(schema: object) -> Any:
    """A small value that fits a JSON schema's types (upper case ones too, as Gemini has them)."""
    rules = cast(Mapping[str, Any], schema) if isinstance(schema, Mapping) else {}
    if rules.get("enum"):
        return rules["enum"][0]
    kind = rules.get("type")
    kind = (kind[0] if isinstance(kind, list) and kind else kind) or "object"
    if str(kind).lower() == "object":
        wanted = rules.get("properties") or {}
        return {name: example(rule) for name, rule in wanted.items()}
    samples = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None}
    return samples.get(str(kind).lower(), "Paris")


def form(received: Received) -> dict[str, tuple[str | None, bytes]]:
    """A multipart body: name → (file name or None, content). {} when it is none."""
    kind = received.header(b"content-type") or b""
    boundary = re.search(rb'boundary="?([^";]+)', kind)
    if not kind.lower().startswith(b"multipart/") or not boundary:
        return {}
    found = {}
    for piece in received.body.split(b"--" + boundary[1])[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        name, file = _named(head, b"name"), _named(head, b"filename")
        if name is not None:
            found[name] = (file, content.removesuffix(b"\r\n"))
    return found


def _named(head: bytes, word: bytes) -> str | None:
    match = re.search(rb"[; ]" + word + rb'="([^"]*)"', head)
    return match[1].decode(errors="replace") if match else None
