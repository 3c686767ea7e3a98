"""Which provider-like answer a request gets: a table of paths, and what is refused before it.

Paths are matched at their end, so the demo serves any base path. A key that begins with sk-refuse
is refused, the model missing-model is not found, limited-model is over its limit. Called by
`orders`; tests may call it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

from admin.demo import (
    anthropic_messages,
    bedrock_runtime,
    gemini_content,
    openai_chat,
    openai_media,
    openai_responses,
)
from admin.demo.ask import Ask, Handler, form
from admin.demo.script import Pair, Received, Script

Tongue = Literal["openai", "anthropic", "gemini", "bedrock"]

_REFUSED_KEY = "sk-refuse"
_RETRY: list[Pair] = [(b"retry-after", b"7"), (b"retry-after-ms", b"7000")]
_ERRORS = {
    "openai": openai_chat.error,
    "anthropic": anthropic_messages.error,
    "gemini": gemini_content.error,
    "bedrock": bedrock_runtime.error,
}
_LISTS: Mapping[str, Handler] = {
    "openai": openai_chat.models,
    "anthropic": anthropic_messages.models,
    "gemini": gemini_content.models,
}
_ONES: Mapping[str, Handler] = {
    "openai": openai_chat.model,
    "anthropic": anthropic_messages.model,
    "gemini": gemini_content.model,
}
_ID = r"(?P<id>[^/]+)"
_GEMINI = r"/models/(?P<model>.+)(?::|%3[Aa])"
_BEDROCK = r"/model/(?P<model>.+)/"
_BEDROCK_PATH = re.compile(r"/model/.+/[a-z-]+$|/foundation-models(/|$)")
_SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/")


def _models(ask: Ask) -> Script:
    return _LISTS[tongue_of(ask.received)](ask)


def _model(ask: Ask) -> Script:
    return _ONES[tongue_of(ask.received)](ask)


_ROWS: tuple[tuple[str, str, Handler], ...] = (
    ("POST", _GEMINI + "generateContent", gemini_content.generate),
    ("POST", _GEMINI + "streamGenerateContent", gemini_content.stream),
    ("POST", _GEMINI + "countTokens", gemini_content.count_tokens),
    ("POST", _GEMINI + "embedContent", gemini_content.embed),
    ("POST", _GEMINI + "batchEmbedContents", gemini_content.embed_several),
    ("POST", _BEDROCK + "converse", bedrock_runtime.converse),
    ("POST", _BEDROCK + "converse-stream", bedrock_runtime.converse_stream),
    ("POST", _BEDROCK + "invoke", bedrock_runtime.invoke),
    ("POST", _BEDROCK + "invoke-with-response-stream", bedrock_runtime.invoke_stream),
    ("POST", _BEDROCK + "count-tokens", bedrock_runtime.count_tokens),
    ("GET", "/foundation-models", bedrock_runtime.models),
    ("GET", "/foundation-models/(?P<model>.+)", bedrock_runtime.model),
    ("POST", "/messages", anthropic_messages.messages),
    ("POST", "/messages/count_tokens", anthropic_messages.count_tokens),
    ("POST", "/chat/completions", openai_chat.chat),
    ("POST", "/completions", openai_chat.completions),
    ("POST", "/responses", openai_responses.create),
    ("POST", "/responses/compact", openai_responses.compact),
    ("GET", f"/responses/{_ID}/input_items", openai_responses.input_items),
    ("POST", f"/responses/{_ID}/cancel", openai_responses.stored),
    ("GET", f"/responses/{_ID}", openai_responses.stored),
    ("DELETE", f"/responses/{_ID}", openai_responses.deleted),
    ("POST", "/embeddings", openai_media.embeddings),
    ("POST", "/moderations", openai_media.moderations),
    ("POST", "/images/(generations|edits|variations)", openai_media.images),
    ("POST", "/audio/(transcriptions|translations)", openai_media.heard),
    ("POST", "/audio/speech", openai_media.spoken),
    ("POST", "/rerank", openai_media.rerank),
    ("POST", "/files", openai_media.upload),
    ("GET", "/files", openai_media.files),
    ("GET", f"/files/{_ID}/content", openai_media.file_content),
    ("GET", f"/files/{_ID}", openai_media.file),
    ("DELETE", f"/files/{_ID}", openai_media.file_deleted),
    ("POST", "/batches", openai_media.batch_made),
    ("GET", "/batches", openai_media.batches),
    ("GET", f"/batches/{_ID}", openai_media.batch),
    ("POST", f"/batches/{_ID}/cancel", openai_media.batch),
    ("GET", "/models", _models),
    ("GET", "/models/(?P<model>.+)", _model),
)
_TABLE = tuple((method, re.compile(f".*{path}"), handler) for method, path, handler in _ROWS)


def answer(received: Received, length: int | None = None) -> Script:
    """What a provider would answer; `length` is the number of words in a generated text."""
    if received.method == "HEAD":
        return Script()
    refusal = _refused_key(received)
    if refusal:
        return refusal
    for method, pattern, handler in _TABLE:
        match = pattern.fullmatch(received.path)
        if match and method == received.method:
            return _handled(received, handler, match.groupdict(), length)
    where = f"{received.method} {received.path}"
    return refuse(received, 404, f"Invalid URL ({where})")


def refuse(received: Received, status: int, message: str) -> Script:
    """An error in the dialect the request speaks."""
    retry = _RETRY if status in (429, 503, 529) else []
    return _ERRORS[tongue_of(received)](status, message, retry)


def tongue_of(received: Received) -> Tongue:
    """Whose API the request means: by its path, or by its headers where paths are alike."""
    if re.search(r"/messages(/|$)", received.path) or received.header(b"anthropic-version"):
        return "anthropic"
    if _BEDROCK_PATH.search(received.path):
        return "bedrock"
    if re.search(_GEMINI, received.path):
        return "gemini"
    if received.header(b"x-goog-api-key") or received.header(b"x-goog-api-client"):
        return "gemini"
    return "openai"


def _refused_key(received: Received) -> Script | None:
    keys = _keys(received)
    if not keys:
        return refuse(received, 401, "You didn't provide an API key.")
    if refused := [key for key in keys if key.startswith(_REFUSED_KEY)]:
        # Some providers echo the whole key; whoever stands between has to mask it.
        return refuse(received, 401, f"Incorrect API key provided: {refused[0]}.")
    return None


def _keys(received: Received) -> list[str]:
    """Every credential of a request, wherever providers take one."""
    found = [
        value.decode("latin-1")
        for name in (b"x-api-key", b"api-key", b"x-goog-api-key")
        for value in received.values(name)
    ]
    for value in received.values(b"authorization"):
        scheme, _, key = value.decode("latin-1").partition(" ")
        found += [key.strip()] if scheme.lower() == "bearer" else []
        found += _SIGNED.findall(value.decode("latin-1"))
    found += parse_qs(received.query).get("key", [])
    return [key for key in found if key]


def _handled(
    received: Received, handler: Handler, parts: dict[str, str], length: int | None
) -> Script:
    try:
        body = _json_body(received)
    except ValueError:
        return refuse(received, 400, "We could not parse the JSON body of your request.")
    model = _model_name(received, body, parts)
    name = model.rpartition("/")[2]
    if name == "missing-model":
        return refuse(received, 404, f"The model `{model}` does not exist.")
    if name == "limited-model":
        return refuse(received, 429, f"Rate limit reached for `{model}`.")
    if not model and _needs_model(received):
        return refuse(received, 400, "you must provide a model parameter")
    try:
        return handler(Ask(received, body, model, parts, length))
    except (AttributeError, LookupError, TypeError, ValueError):
        # The shapes are read, not checked: a body of another shape fails somewhere in there.
        return refuse(received, 400, "Invalid type for a field of your request.")


def _json_body(received: Received) -> dict[str, Any]:
    if received.method != "POST" or not _is_json(received):
        return {}
    try:
        body = json.loads(received.data or b"{}")
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(body, dict):
        raise ValueError("not an object")
    return body


def _is_json(received: Received) -> bool:
    kind = received.header(b"content-type") or b"application/json"
    return not kind.lower().startswith((b"multipart/", b"application/octet-stream"))


def _model_name(received: Received, body: Mapping[str, Any], parts: Mapping[str, str]) -> str:
    if parts.get("model"):
        return unquote(parts["model"])
    if isinstance(body.get("model"), str):
        return str(body["model"])
    return form(received).get("model", (None, b""))[1].decode(errors="replace")


def _needs_model(received: Received) -> bool:
    path = r"/(messages|completions|responses|embeddings|audio/\w+|rerank)"
    return received.method == "POST" and bool(re.fullmatch(f".*{path}", received.path))
