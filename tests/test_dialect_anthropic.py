"""The anthropic dialect: headers, errors, terminal events and merged usage."""

from __future__ import annotations

import json

import pytest

from gateway.dialects import anthropic
from gateway.errors import GatewayError
from gateway.shapes import Usage
from tests.dialect_cases import ENTRIES, ERRORS, config, ended, event, target, used
from tests.recorded import Recorded, one, recorded

CONFIG = config("anthropic", "https://api.anthropic.com/v1", provider="anthropic")
CLIENTS = ["py-anthropic", "node-anthropic", "aisdk-anthropic", "claudecode"]
CHATS = [r for r in recorded(*CLIENTS) if r.path.endswith(b"/messages") and r.status == 200]
STREAMS = [r for r in CHATS if r.kind.startswith("text/event-stream")]


def test_messages_go_below_the_base_url_with_their_query() -> None:
    assert target(CONFIG, "/v1/messages", "beta=true&key=x") == "/v1/messages?beta=true"
    minimax = config("anthropic", "https://api.minimax.io/anthropic/v1")
    assert target(minimax, "/v1/messages/count_tokens") == "/anthropic/v1/messages/count_tokens"


@pytest.mark.parametrize(
    ("auth_type", "expected"),
    [
        ("api_key", [(b"x-api-key", b"k")]),
        ("bearer", [(b"authorization", b"Bearer k")]),
        ("none", []),
    ],
)
def test_authorize_uses_anthropics_header_for_keys(
    auth_type: str, expected: list[tuple[bytes, bytes]]
) -> None:
    assert anthropic.authorize(config("anthropic", "https://h", auth_type=auth_type), b"k") == (
        expected
    )


def test_a_version_is_a_default_only() -> None:
    assert anthropic.defaults(CONFIG) == [(b"anthropic-version", b"2023-06-01")]
    assert b"anthropic-version" not in dict(anthropic.authorize(CONFIG, b"k"))


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: str(e.status))
def test_errors_have_anthropics_shape(error: GatewayError) -> None:
    rendered = anthropic.render(error, "req_1")
    said = json.loads(rendered.body)
    assert rendered.status == error.status
    assert (b"request-id", b"req_1") in rendered.headers
    assert set(said) == {"type", "error", "request_id"}
    assert (said["type"], said["request_id"]) == ("error", "req_1")
    assert set(said["error"]) == {"type", "message"}
    assert said["error"]["message"] == error.message
    streamed = anthropic.error_event(error, "req_1")
    assert streamed.startswith(b"event: error\ndata: ")
    assert ended(anthropic, "anthropic", streamed) == [True]
    assert json.loads(streamed.partition(b"data: ")[2]) == said


def test_error_types_are_those_of_anthropics_documentation() -> None:
    types = {e.status: json.loads(anthropic.render(e, "").body)["error"]["type"] for e in ERRORS}
    assert types == {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        405: "invalid_request_error",
        408: "invalid_request_error",
        413: "request_too_large",
        429: "rate_limit_error",
        431: "invalid_request_error",
        502: "api_error",
        503: "overloaded_error",
        504: "timeout_error",
    }


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda r: r.name)
def test_recorded_streams_end_with_their_last_event_only(exchange: Recorded) -> None:
    ends = ended(anthropic, "anthropic", exchange.answer)
    assert ends == [False] * (len(ends) - 1) + [True]


@pytest.mark.parametrize("exchange", CHATS, ids=lambda r: r.name)
def test_recorded_usage_adds_cached_tokens_to_the_input(exchange: Recorded) -> None:
    known = used(anthropic, exchange)
    assert known is not None
    assert (known.input, known.output, known.cache_read) == (21, 9, 4)


def test_counting_tokens_is_no_usage() -> None:
    assert used(anthropic, one("py-anthropic/count_tokens")) is None


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("message_stop", '{"type":"message_stop"}', True),
        ("error", "{}", True),
        ("", '{"type":"message_stop"}', True),
        ("", '{"type": "error","error":{}}', True),
        ("message_delta", '{"type":"message_stop"}', False),
        ("content_block_delta", '{"delta":{"text":"message_stop"}}', False),
        ("", '{"type":"content_block_delta","delta":{"text":"\\"message_stop\\""}}', False),
        ("", '{"type":"message_delta","delta":{"stop_reason":"error"}}', False),
        ("", '{"type":"message_stop"', False),
        ("", "[DONE]", False),
    ],
)
def test_ends_goes_by_name_or_type(name: str, data: str, expected: bool) -> None:
    assert anthropic.ends("anthropic", event(data, name)) is expected


def test_reports_of_a_stream_are_merged() -> None:
    known: Usage | None = None
    for data in (
        '{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1,'
        '"cache_read_input_tokens":5,"cache_creation_input_tokens":2}}}',
        '{"type":"content_block_delta"}',
        '{"type":"message_delta","usage":{"output_tokens":30}}',
        '{"type":"message_delta","usage":{"output_tokens":40,"cache_read_input_tokens":6}}',
    ):
        known = anthropic.usage(data.encode(), known)
    assert known == Usage(input=18, output=40, cache_read=6, cache_write=2)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('{"usage":{"output_tokens":3}}', Usage(output=3)),
        ('{"usage":{"input_tokens":3,"output_tokens":4}}', Usage(3, 4)),
        ('{"usage":{"input_tokens":-3}}', Usage()),
        ('{"usage":null}', None),
        ('{"usage":{"input_tokens":"3"}}', None),
        ('{"usage":{"input_tokens":3', None),
        ("[]", None),
    ],
)
def test_usage_never_invents_a_number(payload: str, expected: Usage | None) -> None:
    assert anthropic.usage(payload.encode(), None) == expected


def test_model_lists_have_anthropics_shape() -> None:
    listed = json.loads(anthropic.list_models(ENTRIES))
    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "gpt-4o", "a/b")
    assert listed["data"][0] == {
        "type": "model",
        "id": "gpt-4o",
        "display_name": "gpt-4o",
        "created_at": "2023-11-14T22:13:20Z",
    }
    assert json.loads(anthropic.list_models([]))["first_id"] is None
    assert json.loads(anthropic.one_model(ENTRIES[1]))["id"] == "a/b"


def test_heartbeat_is_a_ping() -> None:
    assert anthropic.HEARTBEAT is not None
    assert ended(anthropic, "anthropic", anthropic.HEARTBEAT) == [False]
    assert anthropic.HEARTBEAT.startswith(b"event: ping\n")
