"""The table of endpoints, walked from the outside; the recorded clients' paths as they came."""

from __future__ import annotations

from typing import Any, get_args
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import endpoints
from gateway.endpoints import BodyKind, ModelIn
from gateway.errors import NotFound, WrongMethod
from gateway.paths import RESERVED_ACCOUNTS, Match, caller, match
from gateway.shapes import DialectName
from tests.recorded import Recorded, recorded

ACCOUNT = "0123456789abcdef0123456789abcdef"
SCOPE = f"/v1/{ACCOUNT}/my-gw"

TERMINALS = ("chat", "responses", "anthropic", "gemini", "bedrock")
OPENAI = """
POST chat/completions chat json body chat
GET chat/completions stored_chats none none -
GET chat/completions/chatcmpl-1 stored_chats none none -
DELETE chat/completions/chatcmpl-1 stored_chats none none -
GET chat/completions/chatcmpl-1/messages stored_chats none none -
POST responses responses json body responses
POST responses/compact responses_compact json body -
POST responses/input_tokens count_tokens json body -
GET responses/resp_1 stored_responses none none responses
DELETE responses/resp_1 stored_responses none none -
POST responses/resp_1/cancel stored_responses raw none -
GET responses/resp_1/input_items stored_responses none none -
POST completions completions json body chat
POST embeddings embeddings json body -
POST moderations moderations json body -
POST rerank rerank json body -
POST images/generations images json body -
POST images/edits image_edits multipart form -
POST images/variations image_edits multipart form -
POST images/anything images_other raw none -
POST audio/speech speech json body -
POST audio/transcriptions transcriptions multipart form -
POST audio/translations transcriptions multipart form -
GET audio/voices audio_other none none -
POST files files raw none -
GET files files none none -
GET files/file-1 files none none -
DELETE files/file-1 files none none -
GET files/file-1/content files none none -
POST batches batches raw none -
GET batches batches none none -
GET batches/b_1 batches none none -
POST batches/b_1/cancel batches raw none -
POST uploads uploads raw none -
POST uploads/u_1/parts uploads raw none -
POST uploads/u_1/complete uploads raw none -
POST uploads/u_1/cancel uploads raw none -
"""
ROWS = [line.split() for line in OPENAI.strip().splitlines()]


def at(method: str, path: str) -> Match:
    return match(method, path.encode())


def facts(found: Match) -> tuple[Any, ...]:
    e = found.endpoint
    return e.name, e.body, e.model_in, e.terminal or "-"


@pytest.mark.parametrize("prefix", ["/v1/", "/", "/openai/v1/", f"{SCOPE}/openai/"])
@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r[0]} {r[1]}")
def test_every_openai_endpoint_is_found_under_every_prefix(row: list[str], prefix: str) -> None:
    method, path, *expected = row
    found = at(method, prefix + path)
    assert facts(found) == tuple(expected)
    assert (found.endpoint.dialect, found.rest) == ("openai", b"/" + path.encode())
    assert found.endpoint.template.startswith(
        prefix.replace(SCOPE + "/openai", endpoints.SCOPED[:-1])
    )
    assert not any(word in found.endpoint.template for word in ("_1", "file-1", ACCOUNT))


@pytest.mark.parametrize(
    ("path", "family"),
    [("/v1/files", "openai"), ("/openai/v1/files", "azure"), ("/v1/messages", "anthropic")]
    + [("/v1/models/m:countTokens", "google"), ("/openai/deployments/d/completions", "azure")],
)
def test_family_is_the_provider_whose_endpoint_it_is(path: str, family: str) -> None:
    assert at("POST", path).endpoint.family == family


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_anthropic_endpoints_are_found(path: str) -> None:
    found = at("POST", path)
    assert (found.endpoint.dialect, found.rest) == ("anthropic", path[3:].encode())
    assert found.endpoint.terminal == ("anthropic" if path == "/v1/messages" else None)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
@pytest.mark.parametrize("action", ["generateContent", "streamGenerateContent", "countTokens"])
@pytest.mark.parametrize(
    ("raw", "model", "separator"),
    [
        ("gemini-2.5-flash", "gemini-2.5-flash", ":"),
        ("gemini-2.5-flash", "gemini-2.5-flash", "%3A"),
        ("gemini-2.5-flash", "gemini-2.5-flash", "%3a"),
        ("google/gemini-x@001", "google/gemini-x@001", ":"),
        ("a%3Ab:c", "a:b:c", ":"),
        ("tuned%20one", "tuned one", "%3A"),
    ],
)
def test_gemini_models_stand_in_the_path(
    version: str, action: str, raw: str, model: str, separator: str
) -> None:
    found = at("POST", f"/{version}/models/{raw}{separator}{action}")
    assert found.model_span is not None
    start, end = found.model_span
    assert (found.endpoint.dialect, found.endpoint.model_in) == ("gemini", "path")
    assert (found.model, found.rest[start:end]) == (model, raw.encode())
    assert found.rest == f"/models/{raw}{separator}{action}".encode()


@pytest.mark.parametrize("action", ["embedContent", "batchEmbedContents"])
def test_gemini_embeddings_are_found(action: str) -> None:
    assert at("POST", f"/v1beta/models/e:{action}").endpoint.operation == "embeddings"


@pytest.mark.parametrize("prefix", ["/v1", "", "/v1beta", "/openai/v1", "/openai"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_model_lists_are_answered_here(prefix: str, method: str) -> None:
    listed, single = at(method, f"{prefix}/models"), at(method, f"{prefix}/models/a/b%3Ac")
    assert (listed.endpoint.local, listed.endpoint.name, listed.model) == (True, "models", None)
    assert (single.endpoint.local, single.endpoint.name, single.model) == (True, "model", "a/b:c")


@pytest.mark.parametrize("tail", ["chat/completions", "embeddings", "audio/transcriptions"])
def test_azure_deployments_are_models(tail: str) -> None:
    found = at("POST", f"/openai/deployments/my-dep%20x/{tail}")
    assert (found.endpoint.dialect, found.endpoint.model_in) == ("azure", "path")
    assert (found.model, found.model_span) == ("my-dep x", (13, 23))
    assert found.rest == f"/deployments/my-dep%20x/{tail}".encode()
    assert found.endpoint.template == f"/openai/deployments/{{deployment}}/{tail}"


@pytest.mark.parametrize("tail", ["responses", "files", "batches"])
def test_azure_paths_of_the_resource_are_found(tail: str) -> None:
    found = at("POST", f"/openai/{tail}")
    assert (found.endpoint.dialect, found.rest) == ("azure", f"/{tail}".encode())


@pytest.mark.parametrize(
    ("path", "provider", "dialect", "name", "rest"),
    [
        ("openai/chat/completions", "openai", "openai", "chat", "/chat/completions"),
        ("openai/v1/responses", "openai", "openai", "responses", "/responses"),
        ("openai/vector_stores", "openai", "openai", "native", "/vector_stores"),
        ("openai/models", "openai", "openai", "native", "/models"),
        ("anthropic/v1/messages", "anthropic", "anthropic", "messages", "/messages"),
        ("anthropic/messages", "anthropic", "anthropic", "messages", "/messages"),
        ("anthropic/v1/messages/batches", "anthropic", "anthropic", "native", "/messages/batches"),
        ("anthropic/v1/chat/completions", "anthropic", "openai", "chat", "/chat/completions"),
        ("grok/v1/chat/completions", "xai", "openai", "chat", "/chat/completions"),
        ("grok/v1/messages", "xai", "anthropic", "messages", "/messages"),
        ("groq/v1/messages", "groq", "openai", "native", "/messages"),
        ("deepseek/anthropic/v1/messages", "deepseek", "anthropic", "messages", "/messages"),
        ("perplexity-ai/chat/completions", "perplexity", "openai", "chat", "/chat/completions"),
        ("fireworks/v1/embeddings", "fireworks-ai", "openai", "embeddings", "/embeddings"),
        ("custom:lab/v1/messages", "custom:lab", "anthropic", "messages", "/messages"),
        ("custom%3Alab/chat/completions", "custom:lab", "openai", "chat", "/chat/completions"),
        ("custom-lab/chat/completions", "custom:lab", "openai", "chat", "/chat/completions"),
        ("custom:lab/api/x", "custom:lab", "openai", "native", "/api/x"),
        ("azure-openai/openai/v1/embeddings", "azure", "openai", "embeddings", "/embeddings"),
        ("azure-openai/other/path", "azure", "azure", "native", "/other/path"),
        ("azure-openai/openai/v1/models", "azure", "azure", "native", "/models"),
        ("azure-openai/openai/models/m", "azure", "azure", "native", "/models/m"),
        ("cohere/v2/chat", "cohere", "openai", "native", "/chat"),
    ],
)
def test_native_paths_of_a_provider_are_found(
    path: str, provider: str, dialect: str, name: str, rest: str
) -> None:
    found = at("POST", f"{SCOPE}/{path}")
    assert (found.account, found.gateway, found.provider) == (ACCOUNT, "my-gw", provider)
    assert (found.endpoint.dialect, found.endpoint.name) == (dialect, name)
    assert found.rest == rest.encode()
    assert found.endpoint.template.startswith("/v1/{account}/{gateway}/{provider}/")
    assert not found.endpoint.local


def test_gemini_is_reached_natively_and_by_its_openai_paths() -> None:
    found = at("POST", f"{SCOPE}/google-ai-studio/v1beta/models/g:streamGenerateContent")
    assert (found.provider, found.model, found.endpoint.terminal) == ("google", "g", "gemini")
    assert found.model_span is not None
    assert found.rest[slice(*found.model_span)] == b"g"
    other = at("POST", f"{SCOPE}/google/v1beta/openai/chat/completions")
    assert (other.endpoint.name, other.rest) == ("chat", b"/chat/completions")


def test_cloudflares_azure_path_names_resource_and_deployment() -> None:
    found = at("POST", f"{SCOPE}/azure-openai/my-res/my-dep/chat/completions")
    assert (found.endpoint.dialect, found.model) == ("azure", "my-dep")
    assert found.rest == b"/deployments/my-dep/chat/completions"
    assert found.model_span is not None
    assert found.rest[slice(*found.model_span)] == b"my-dep"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_unknown_native_paths_pass_with_any_method(method: str) -> None:
    found = at(method, f"{SCOPE}/openai/v1/vector_stores/vs_1/x")
    assert found.endpoint.body == ("none" if method in ("GET", "DELETE") else "raw")
    assert (found.rest, found.model) == (b"/vector_stores/vs_1/x", None)


def test_compat_names_no_provider() -> None:
    found = at("POST", f"{SCOPE}/compat/chat/completions")
    assert (found.account, found.provider, found.endpoint.name) == (ACCOUNT, None, "chat")
    with pytest.raises(NotFound):
        at("POST", f"{SCOPE}/compat/embeddings")
    with pytest.raises(WrongMethod):
        at("GET", f"{SCOPE}/compat/chat/completions")


def test_accounts_may_have_names_that_are_not_reserved() -> None:
    assert at("POST", "/v1/acme/gw_1/openai/chat/completions").account == "acme"
    for word in RESERVED_ACCOUNTS:
        with pytest.raises((NotFound, WrongMethod)):
            at("PUT", f"/v1/{word}/gw/openai/chat/completions")


def test_every_first_word_of_the_table_is_reserved() -> None:
    heads = {path[0].decode() for path in endpoints.PLAIN}
    assert heads <= RESERVED_ACCOUNTS
    assert {"models", "projects", "realtime", "wardgate"} <= RESERVED_ACCOUNTS


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize(
    "path", ["/", "", "/v1", "/v1/", "/v1beta", "/openai", f"{SCOPE}/anthropic", f"{SCOPE}/compat"]
)
def test_probes_of_a_base_address_are_answered_here(method: str, path: str) -> None:
    found = at(method, path)
    assert (found.endpoint.name, found.endpoint.local) == ("probe", True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat"),
        ("GET", "/v1/nothing"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1/v1/chat/completions"),
        ("POST", "/v1/realtime"),
        ("POST", "/v2/chat"),
        ("GET", "/v1/files/"),
        ("GET", "/v1/models/"),
        ("POST", "/messages"),
        ("POST", "/v1beta/chat/completions"),
        ("POST", "/v1/models/m:predict"),
        ("POST", "/v1beta/models/%ff:generateContent"),
        ("POST", "/openai/chat/completions"),
        ("POST", "/openai/deployments//chat/completions"),
        ("POST", "/openai/deployments/d/nothing"),
        ("POST", f"/v1/{ACCOUNT}/my-gw"),
        ("POST", f"/v1/{ACCOUNT}/Bad_Gateway/openai/chat/completions"),
        ("POST", f"/v1/{ACCOUNT}/{'g' * 65}/openai/chat/completions"),
        ("POST", "/v1/-acc/gw/openai/chat/completions"),
        ("POST", "/v1/projects/p/locations/l/publishers/google/models/m:generateContent"),
        ("POST", "/client/v4/accounts/a/ai-gateway/gateways"),
    ],
)
def test_paths_that_are_in_no_table_are_not_found(method: str, path: str) -> None:
    with pytest.raises(NotFound):
        at(method, path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/responses", "POST"),
        ("PUT", "/v1/files", "GET, POST"),
        ("POST", "/v1/files/file-1/content", "GET"),
        ("GET", "/v1/messages", "POST"),
        ("GET", "/v1beta/models/m:generateContent", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/ft-1", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("GET", "/openai/deployments/d/embeddings", "POST"),
        ("OPTIONS", "/v1/chat/completions", "GET, POST"),
    ],
)
def test_known_paths_say_which_methods_they_take(method: str, path: str, allowed: str) -> None:
    with pytest.raises(WrongMethod, match=f"takes {allowed}$"):
        at(method, path)


def test_every_cell_of_the_tables_is_a_word_the_types_know() -> None:
    tables = [endpoints.PLAIN, endpoints.GEMINI, endpoints.AZURE_DEPLOYED, endpoints.NATIVE_GEMINI]
    tables += [endpoints.BEDROCK, endpoints.NATIVE_BEDROCK]
    tables += [*endpoints.NATIVE.values(), endpoints.AZURE_V1, endpoints.AZURE_RESOURCE]
    found = [e for table in tables for row in table.values() for e in row.values()]
    assert {e.body for e in found} == set(get_args(BodyKind))
    assert {e.model_in for e in found} == set(get_args(ModelIn))
    assert {e.terminal for e in found} == {None, *TERMINALS}


@given(
    st.lists(
        st.sampled_from(
            ["v1", "v1beta", "openai", "models", "m:generateContent", "a", ""]
            + ["aws-bedrock", "bedrock-runtime", "model", "converse"]
            + [
                "deployments",
                ACCOUNT,
                "gw",
                "%ff",
                "custom:",
                "azure",
                "google",
                "messages",
                "files",
            ]
        )
    )
)
def test_any_path_is_found_or_refused_and_has_a_caller(parts: list[str]) -> None:
    path = ("/" + "/".join(parts)).encode()
    assert caller(path, []) in get_args(DialectName)
    for method in ("GET", "POST"):
        try:
            found = match(method, path)
        except (NotFound, WrongMethod):
            continue
        local, azure = found.endpoint.local, found.provider == "azure"
        assert local or azure or path.endswith(found.rest)


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/v1/chat/completions", {}, "openai"),
        ("/v1/messages", {}, "anthropic"),
        ("/v1/messages/nonsense", {}, "anthropic"),
        ("/v1/models", {}, "openai"),
        ("/v1/models", {"anthropic-version": "2026-10-21"}, "anthropic"),
        ("/v1/models", {"x-goog-api-key": "k"}, "gemini"),
        ("/v1/models", {"x-goog-api-client": "c"}, "gemini"),
        ("/v1/nonsense", {"anthropic-version": "1"}, "anthropic"),
        ("/v1/nonsense", {"authorization": "Bearer x"}, "openai"),
        ("/v1/chat/completions", {"anthropic-version": "1"}, "openai"),
        ("/v1/models/m:generateContent", {}, "gemini"),
        ("/v1beta", {}, "gemini"),
        ("/v1beta/nonsense", {}, "gemini"),
        ("/openai/nonsense", {}, "azure"),
        ("/openai/deployments/d/embeddings", {"x-goog-api-key": "k"}, "azure"),
        (f"{SCOPE}/anthropic/v1/messages", {}, "anthropic"),
        (f"{SCOPE}/anthropic/v1/chat/completions", {}, "openai"),
        (f"{SCOPE}/google-ai-studio/v1beta/nonsense", {}, "gemini"),
        (f"{SCOPE}/custom:x/v1/messages", {}, "anthropic"),
        (f"{SCOPE}/compat/chat/completions", {}, "openai"),
        ("", {}, "openai"),
        ("no slash", {}, "openai"),
        ("*", {"x-goog-api-key": "k"}, "gemini"),
        ("/" + "a/" * 9000, {}, "openai"),
    ],
)
def test_caller_is_the_dialect_the_client_understands(
    path: str, headers: dict[str, str], expected: str
) -> None:
    assert caller(path.encode(), [(n.encode(), v.encode()) for n, v in headers.items()]) == expected


@pytest.mark.parametrize("exchange", list(recorded()), ids=lambda r: r.name)
def test_recorded_requests_are_found(exchange: Recorded) -> None:
    if exchange.status == 404:
        with pytest.raises(NotFound):
            match(exchange.method, exchange.path)
        return
    found = match(exchange.method, exchange.path)
    client = exchange.name.partition("/")[0].partition("-")[2]
    expected = {"anthropic": "anthropic", "genai": "gemini", "google": "gemini", "azure": "azure"}
    expected["boto3"] = "bedrock"
    assert caller(exchange.path, exchange.headers) == expected.get(client, said(exchange))
    assert found.endpoint.local == exchange.path.endswith(b"models")
    if found.endpoint.model_in == "path":
        assert found.model
        assert found.model in unquote(exchange.path.decode())


def said(exchange: Recorded) -> str:
    """What a client of several dialects speaks here, by the body it sends."""
    if exchange.path.startswith(b"/openai/"):
        return "azure"
    if "contents" in (exchange.sent or {}):
        return "gemini"
    return "anthropic" if exchange.path == b"/v1/messages" else "openai"
