"""Bedrock's paths: a model is a segment, an ARN's slash in it encoded, and nothing else may be."""

from __future__ import annotations

from typing import cast
from urllib.parse import unquote

import pytest

from gateway.client import edge
from gateway.client.head import Head
from gateway.client.listener import Listener
from gateway.client.turn import Turn
from gateway.errors import Malformed, NotFound, WrongMethod
from gateway.paths import caller
from tests.test_paths import SCOPE, at


@pytest.mark.parametrize(
    ("action", "name", "operation", "terminal"),
    [
        ("converse", "converse", "chat", None),
        ("converse-stream", "converse_stream", "chat", "bedrock"),
        ("invoke", "invoke", "generate_content", None),
        ("invoke-with-response-stream", "invoke_stream", "generate_content", None),
        ("count-tokens", "count_tokens", "count_tokens", None),
    ],
)
@pytest.mark.parametrize(
    ("raw", "model"),
    [
        ("anthropic.claude-v2:1", "anthropic.claude-v2:1"),
        ("anthropic.claude-v2%3A1", "anthropic.claude-v2:1"),
        ("arn:aws:bedrock:eu-west-1:1:inference-profile%2Fx", None),
        ("amazon-bedrock%2Fx", "amazon-bedrock/x"),
        ("amazon-bedrock/x", "amazon-bedrock/x"),
    ],
)
@pytest.mark.parametrize(
    "prefix",
    ["", f"{SCOPE}/aws-bedrock/bedrock-runtime/eu-west-1", f"{SCOPE}/amazon-bedrock"],
)
def test_bedrock_models_stand_in_the_path(
    prefix: str, raw: str, model: str | None, action: str, name: str, operation: str,
    terminal: str | None,
) -> None:  # fmt: skip
    found = at("POST", f"{prefix}/model/{raw}/{action}")
    e = found.endpoint
    assert (e.name, e.operation, e.terminal, e.body) == (name, operation, terminal, "json")
    assert (e.dialect, e.family, e.model_in) == ("bedrock", "amazon-bedrock", "path")
    assert found.model == (model or unquote(raw))
    assert found.model_span is not None
    assert found.rest[slice(*found.model_span)] == raw.encode()
    assert found.provider == ("amazon-bedrock" if prefix else None)
    assert "eu-west-1" not in e.template


def test_bedrocks_list_of_models_is_answered_here() -> None:
    listed, single = at("GET", "/foundation-models"), at("GET", "/foundation-models/a.b%3A0")
    assert (listed.endpoint.local, listed.endpoint.name, listed.model) == (True, "models", None)
    assert (single.endpoint.local, single.endpoint.name, single.model) == (True, "model", "a.b:0")


@pytest.mark.parametrize(("method", "body"), [("POST", "json"), ("GET", "none"), ("PUT", "json")])
def test_bedrocks_other_paths_are_read_whole_to_be_signed(method: str, body: str) -> None:
    found = at(method, f"{SCOPE}/aws-bedrock/bedrock-runtime/eu-west-1/async-invoke")
    assert (found.endpoint.name, found.endpoint.dialect) == ("native", "bedrock")
    assert found.endpoint.body == body
    assert found.rest == b"/bedrock-runtime/eu-west-1/async-invoke"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/model/m/nothing"),
        ("POST", "/model/m"),
        ("POST", "/model//converse"),
        ("POST", "/v1/model/m/converse"),
        ("POST", "/model/%ff/converse"),
        ("GET", "/foundation-models/"),
    ],
)
def test_other_paths_are_not_found(method: str, path: str) -> None:
    with pytest.raises(NotFound):
        at(method, path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/model/m/converse", "POST"), ("POST", "/foundation-models", "GET, HEAD")],
)
def test_known_paths_say_which_methods_they_take(method: str, path: str, allowed: str) -> None:
    with pytest.raises(WrongMethod, match=f"takes {allowed}$"):
        at(method, path)


@pytest.mark.parametrize(
    "path",
    [
        "/model/m/converse",
        "/model/nonsense",
        "/foundation-models",
        f"{SCOPE}/aws-bedrock/bedrock-runtime/us-east-1/model/m/converse",
        f"{SCOPE}/aws-bedrock/nonsense",
    ],
)
def test_who_asks_there_understands_bedrocks_errors(path: str) -> None:
    assert caller(path.encode(), [(b"anthropic-version", b"1")]) == "bedrock"


def checked(path: str) -> None:
    headers = [(b"host", b"h")]
    turn = Turn(cast(Listener, None), "POST", (path.encode(), b"", False), headers, "1.1")
    edge.check(turn, Head(headers))


@pytest.mark.parametrize(
    "path",
    [
        "/model/arn:aws:bedrock:eu-west-1:1:inference-profile%2Fx/converse",
        "/model/a%2fb%2Fc/invoke-with-response-stream",
        f"{SCOPE}/aws-bedrock/bedrock-runtime/eu-west-1/model/arn%2Fx/invoke",
        f"{SCOPE}/bedrock/model/arn%2Fx/invoke",
    ],
)
def test_an_encoded_slash_may_stand_in_a_models_id(path: str) -> None:
    checked(path)


@pytest.mark.parametrize(
    "path",
    [
        "/model/..%2Fx/converse",
        "/model/a%2F..%2Fb/converse",
        "/model/a%2F./converse",
        "/model/a%2F%2Fb/converse",
        "/model/%2Fa/converse",
        "/model/a%2F/converse",
        "/model/a%2F%2e%2e/converse",
        "/model/a%5Cb/converse",
        "/model/a%00%2Fb/converse",
        "/model/a/b%2Fc/converse",
        "/model/a%2Fb/converse/more",
        "/model/a/conv%2Ferse",
        "/foundation-models/a%2Fb",
        f"{SCOPE}/openai/model/a%2Fb/converse",
        f"{SCOPE}/aws-bedrock/bedrock-runtime/..%2Fx/model/a/converse",
        f"{SCOPE}/aws-bedrock/x%2Fy/model/a/converse",
        "/v1/a%2Fb/gw/aws-bedrock/model/a/converse",
    ],
)
def test_an_encoded_slash_is_refused_everywhere_else(path: str) -> None:
    with pytest.raises(Malformed):
        checked(path)
