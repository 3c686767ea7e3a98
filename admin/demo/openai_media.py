"""Demo answers of OpenAI's other endpoints: embeddings, moderations, images, audio, files.

Nothing is stored: a file asked for by any id exists. Called by `answers`.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

from admin.demo.ask import EPOCH, Ask, form, in_bytes, in_json, new_id
from admin.demo.openai_chat import headers
from admin.demo.script import Script

SPEECH = b"ID3\x04\x00" + bytes(range(256)) * 32
"""What the demo says aloud: no music, but every byte value."""

_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)
_SPOKEN = {"mp3": b"audio/mpeg", "wav": b"audio/wav", "opus": b"audio/opus", "pcm": b"audio/pcm"}


def embeddings(ask: Ask) -> Script:
    given = ask.body.get("input")
    several = isinstance(given, list) and bool(given) and isinstance(given[0], str | list)
    count = len(given) if isinstance(given, list) and several else 1
    vector: Any = vector_of(int(ask.body.get("dimensions") or 8))
    if ask.body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    data = [{"object": "embedding", "index": at, "embedding": vector} for at in range(count)]
    used = {"prompt_tokens": ask.tokens_in, "total_tokens": ask.tokens_in}
    listed = {"object": "list", "data": data, "model": ask.model, "usage": used}
    return in_json(listed, headers=headers())


def vector_of(length: int) -> list[float]:
    """Numbers a 32-bit float holds exactly, so that both encodings say the same."""
    return [(at % 16 - 8) / 16 for at in range(length)]


def moderations(ask: Ask) -> Script:
    names = ("harassment", "hate", "self-harm", "sexual", "violence")
    result = {
        "flagged": False,
        "categories": dict.fromkeys(names, False),
        "category_scores": dict.fromkeys(names, 0.0001),
        "category_applied_input_types": {name: ["text"] for name in names},
    }
    made = {"id": new_id("modr-"), "model": ask.model or "omni-moderation-latest"}
    return in_json(made | {"results": [result]}, headers=headers())


def images(ask: Ask) -> Script:
    return in_json({"created": EPOCH, "data": [{"b64_json": _PIXEL}]}, headers=headers())


def heard(ask: Ask) -> Script:
    """A transcription; what it heard is how many bytes the recording has."""
    fields = form(ask.received)
    text = f"{len(fields.get('file', (None, b''))[1])} bytes of sound."
    if fields.get("response_format", (None, b"json"))[1] in (b"text", b"srt", b"vtt"):
        return in_bytes(text.encode() + b"\n", b"text/plain; charset=utf-8", headers())
    return in_json({"text": text}, headers=headers())


def spoken(ask: Ask) -> Script:
    kind = _SPOKEN.get(str(ask.body.get("response_format", "mp3")), b"audio/mpeg")
    pieces = [SPEECH[at : at + 1024] for at in range(0, len(SPEECH), 1024)]
    head = [(b"content-type", kind), *headers()]
    return Script(headers=head, chunks=pieces, framing="chunked")


def rerank(ask: Ask) -> Script:
    documents = ask.body.get("documents") or []
    scores = [{"index": at, "relevance_score": 1 / (at + 1)} for at in range(len(documents))]
    return in_json({"id": new_id("rr-"), "model": ask.model, "results": scores}, headers=headers())


def _file(name: str, title: str, size: int, purpose: str = "batch") -> dict[str, Any]:
    return {
        "id": name,
        "object": "file",
        "bytes": size,
        "created_at": EPOCH,
        "filename": title,
        "purpose": purpose,
        "status": "processed",
    }


def upload(ask: Ask) -> Script:
    fields = form(ask.received)
    title, content = fields.get("file", ("unnamed", b""))
    purpose = fields.get("purpose", (None, b"batch"))[1].decode(errors="replace")
    made = _file(new_id("file-"), title or "unnamed", len(content), purpose)
    return in_json(made, headers=headers())


def files(ask: Ask) -> Script:
    listed = [_file(f"file-demo{n}", f"demo{n}.jsonl", 120) for n in (1, 2)]
    ends = {"first_id": listed[0]["id"], "last_id": listed[-1]["id"], "has_more": False}
    return in_json({"object": "list", "data": listed, **ends}, headers=headers())


def file(ask: Ask) -> Script:
    return in_json(_file(ask.parts["id"], "demo.jsonl", 120), headers=headers())


def file_content(ask: Ask) -> Script:
    return in_bytes(SPEECH, b"application/octet-stream", headers())


def file_deleted(ask: Ask) -> Script:
    gone = {"id": ask.parts["id"], "object": "file", "deleted": True}
    return in_json(gone, headers=headers())


def _batch(name: str, status: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-demo1",
        "completion_window": "24h",
        "status": status,
        "created_at": EPOCH,
    }


def batch_made(ask: Ask) -> Script:
    return in_json(_batch(new_id("batch_"), "validating"), headers=headers())


def batch(ask: Ask) -> Script:
    status = "cancelling" if ask.received.path.endswith("/cancel") else "completed"
    return in_json(_batch(ask.parts["id"], status), headers=headers())


def batches(ask: Ask) -> Script:
    page = {"object": "list", "data": [_batch("batch_demo", "completed")], "has_more": False}
    return in_json(page, headers=headers())
