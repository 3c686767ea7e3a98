"""The openai dialect: where it sends, what it injects, what it reads off streams and answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.dialects import openai
from gateway.dialects.openai_wire import _unusual, _usual
from gateway.errors import GatewayError
from gateway.shapes import Usage
from tests.dialect_cases import ENTRIES, ERRORS, config, ended, event, target, used
from tests.recorded import Recorded, one, recorded

CONFIG = config("openai", "https://api.openai.com/v1", provider="openai")
CLIENTS = ["py-openai", "py-azure", "py-langchain", "py-groq", "py-mistral", "py-litellm"]
CLIENTS += ["node-openai", "node-azure", "aisdk-openai", "aisdk-compat", "codex"]
CHATS = [
    r
    for r in recorded(*CLIENTS)
    if r.path.endswith((b"chat/completions", b"/responses")) and r.status == 200
]
STREAMS = [r for r in CHATS if r.kind.startswith("text/event-stream")]


@pytest.mark.parametrize(
    ("path", "base", "expected"),
    [
        ("/v1/chat/completions", "https://api.openai.com/v1", "/v1/chat/completions"),
        ("/chat/completions", "https://api.openai.com/v1", "/v1/chat/completions"),
        ("/v1/embeddings", "https://api.groq.com/openai/v1", "/openai/v1/embeddings"),
        ("/v1/embeddings", "https://api.perplexity.ai", "/embeddings"),
        ("/v1/files/f%20x/content", "http://127.0.0.1:9000/v1/", "/v1/files/f%20x/content"),
        ("/v1/acc/gw/openai/v1/vector_stores", "https://h/v1", "/v1/vector_stores"),
        ("/openai/v1/responses", "https://h/v1", "/v1/responses"),
    ],
)
def test_version_segment_is_replaced_by_the_base_url(path: str, base: str, expected: str) -> None:
    method = "GET" if "content" in path else "POST"
    assert target(config("openai", base), path, method=method) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ""),
        ("a=1&b=%20&&c", "a=1&b=%20&&c"),
        ("key=wg_x", ""),
        ("a=1&key=wg_x&b=2", "a=1&b=2"),
        ("KEY=x&Api-Key=y&api_key=z&access_token=t&a", "a"),
        ("%6bey=x&monkey=1&keys=2", "monkey=1&keys=2"),
    ],
)
def test_credentials_leave_the_query_and_nothing_else(query: str, expected: str) -> None:
    sent = target(CONFIG, "/v1/chat/completions", query)
    assert sent == "/v1/chat/completions" + ("?" + expected if expected else "")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, [(b"authorization", b"Bearer k")]),
        ({"auth_type": "bearer"}, [(b"authorization", b"Bearer k")]),
        ({"auth_type": "none"}, []),
        (
            {"settings": {"organization": "org-1", "project": "p"}},
            [
                (b"authorization", b"Bearer k"),
                (b"openai-organization", b"org-1"),
                (b"openai-project", b"p"),
            ],
        ),
        ({"provider": "cloudflare-ai-gateway"}, [(b"cf-aig-authorization", b"Bearer k")]),
    ],
)
def test_authorize_is_a_bearer_and_the_account(changed: Any, expected: Any) -> None:
    assert openai.authorize(config("openai", "https://h/v1", **changed), b"k") == expected
    assert openai.defaults(CONFIG) == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: str(e.status))
def test_errors_have_openais_shape(error: GatewayError) -> None:
    rendered = openai.render(error, "req_1")
    said = json.loads(rendered.body)["error"]
    assert rendered.status == error.status
    assert (b"content-type", b"application/json") in rendered.headers
    assert set(said) == {"message", "type", "param", "code"}
    assert (said["message"], said["code"], said["param"]) == (
        error.message,
        error.code,
        error.param,
    )
    streamed = openai.error_event(error, "req_1")
    assert streamed.startswith(b"data: ")
    assert ended(openai, "chat", streamed) == [True]
    assert json.loads(streamed[6:]) == {"error": said}


def test_error_types_are_those_sdks_know() -> None:
    types = {e.status: json.loads(openai.render(e, "").body)["error"]["type"] for e in ERRORS}
    assert types[401] == "authentication_error"
    assert types[403] == "permission_error"
    assert types[404] == types[400] == types[413] == "invalid_request_error"
    assert types[429] == "rate_limit_exceeded"
    assert types[502] == types[504] == "server_error"


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda r: r.name)
def test_recorded_streams_end_with_their_last_event_only(exchange: Recorded) -> None:
    rule = "responses" if exchange.path.endswith(b"/responses") else "chat"
    ends = ended(openai, rule, exchange.answer)
    assert ends == [False] * (len(ends) - 1) + [True]


@pytest.mark.parametrize("exchange", CHATS, ids=lambda r: r.name)
def test_recorded_usage_is_counted_once(exchange: Recorded) -> None:
    known = used(openai, exchange)
    if b'"usage": {' not in exchange.answer and b'"usage":{' not in exchange.answer:
        assert known is None
        return
    assert known is not None
    assert known.input == 21
    assert known.output == 9


@pytest.mark.parametrize(
    ("rule", "name", "data", "expected"),
    [
        ("chat", "", "[DONE]", True),
        ("chat", "", " [DONE]", False),
        ("chat", "", '{"error":{"message":"x"}}', True),
        ("chat", "", '{"id":"1","choices":[],"error":{"code":502,"message":"x"}}', True),
        ("chat", "error", '{"message":"x"}', True),
        ("chat", "", '{"error":null,"choices":[{"finish_reason":"stop"}]}', False),
        ("chat", "", '{"choices":[{"finish_reason":"error"}]}', False),
        ("chat", "", '{"choices":[{"delta":{"content":"\\"error\\": [DONE]"}}]}', False),
        ("chat", "", '{"error"', False),
        ("responses", "response.completed", "{}", True),
        ("responses", "response.failed", "", True),
        ("responses", "response.incomplete", "", True),
        ("responses", "response.cancelled", "", True),
        ("responses", "error", "{}", True),
        ("responses", "response.created", '{"type":"response.completed"}', False),
        ("responses", "response.output_text.delta", '{"delta":"response.completed"}', False),
        ("responses", "", '{"type":"response.completed"}', True),
        ("responses", "", '{"type":"error","message":"x"}', True),
        ("responses", "", '{"type":"response.output_text.delta","error":1}', False),
        ("responses", "", "[DONE]", False),
        ("responses", "", '{"type":"response.comp', False),
    ],
)
def test_ends_goes_by_the_rule(rule: str, name: str, data: str, expected: bool) -> None:
    assert openai.ends(rule, event(data, name)) is expected


EARLIER = Usage(input=1, output=1)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('{"usage":null}', EARLIER),
        ('{"choices":[]}', EARLIER),
        ('{"usage":{}}', EARLIER),
        ('{"usage":{"type":"duration","seconds":3}}', EARLIER),
        ('{"usage":{"prompt_tokens":7,"total_tokens":7}}', Usage(input=7)),
        ('{"usage": {"prompt_tokens":7,"completion_tokens":0}}', Usage(input=7, output=0)),
        ('{"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":4}}}', Usage(3, 4)),
        (
            '{"usage":null,"x_groq":{"id":"r","usage":{"prompt_tokens":3,"completion_tokens":4}}}',
            Usage(3, 4),
        ),
        (
            '{"type":"response.completed","response":{"usage":{"input_tokens":5,"output_tokens":6,'
            '"input_tokens_details":{"cached_tokens":2},'
            '"output_tokens_details":{"reasoning_tokens":1}}}}',
            Usage(5, 6, cache_read=2, reasoning=1),
        ),
        (
            '{"usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_cache_hit_tokens":4}}',
            Usage(9, 1, cache_read=4),
        ),
        ('{"usage":{"prompt_tokens":-1,"completion_tokens":true}}', EARLIER),
        ('{"usage":{"prompt_tokens":"7","prompt_tokens_details":3}}', EARLIER),
        ('{"usage":{"prompt_tokens":7', EARLIER),
        ('{"choices":[{"delta":{"content":"{\\"usage\\":{\\"prompt_tokens\\":7}}"}}]}', EARLIER),
    ],
)
def test_usage_is_read_wherever_it_stands(payload: str, expected: Usage) -> None:
    assert openai.usage(payload.encode(), EARLIER) == expected


# What stands where a number of tokens should, most of all numbers.
NUMBERS = st.integers(0, 10) | st.integers(2**31, 2**66) | st.integers(-3, 0)
ODD = st.sampled_from([None, True, False, "7", "", 7.0, 7.5, -0.0, 1e300, [], [7], {}, {"a": 7}])
COUNTS = NUMBERS | ODD
OUTER = ["prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens"]
OUTER += ["prompt_cache_hit_tokens", "prompt_cache_miss_tokens", "cost"]
INNER = ["cached_tokens", "cache_write_tokens", "reasoning_tokens", "audio_tokens"]
DETAILS = st.dictionaries(st.sampled_from(INNER), COUNTS) | ODD
PLACES = ["prompt_tokens_details", "completion_tokens_details"]
PLACES += ["input_tokens_details", "output_tokens_details"]


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    """A usage object: nearly chat's, as often as not."""
    report = {"prompt_tokens": draw(st.integers(0, 10))} if draw(st.booleans()) else {}
    report |= draw(st.dictionaries(st.sampled_from(OUTER), COUNTS, max_size=4))
    report |= draw(st.dictionaries(st.sampled_from(PLACES), DETAILS, max_size=3))
    return {key: report[key] for key in draw(st.permutations(list(report)))}


INSIDE = st.none() | st.fixed_dictionaries({"usage": st.none() | reports(), "id": st.just("x")})
PAYLOADS = st.fixed_dictionaries(
    {"usage": reports() | ODD},
    optional={"response": INSIDE, "x_groq": INSIDE, "choices": st.just([{"usage": {"a": 1}}])},
)


@given(PAYLOADS, st.sampled_from([None, EARLIER]))
@example({"usage": {"prompt_tokens": 7, "completion_tokens": None, "output_tokens": 3}}, None)
@example({"usage": {"prompt_tokens": 7, "input_tokens_details": {"cached_tokens": 3}}}, None)
@example({"usage": {"prompt_tokens": 7, "prompt_cache_hit_tokens": 4}}, EARLIER)
def test_quick_reading_of_usage_agrees_with_the_careful_one_when_it_gives_any(
    payload: dict[str, Any], so_far: Usage | None
) -> None:
    written = json.dumps(payload).encode()
    quick = _usual(written)
    assert quick is None or quick == _unusual(written, so_far)


def test_quick_reading_is_what_reads_chats_usage() -> None:
    """Or there would be no use in it."""
    details = '"prompt_tokens_details":{"cached_tokens":3,"audio_tokens":0}'
    more = '"completion_tokens_details":{"reasoning_tokens":2},"service_tier":"default"'
    written = f'{{"usage":{{"prompt_tokens":7,"completion_tokens":5,{details},{more}}}}}'.encode()
    assert _usual(written) == Usage(7, 5, cache_read=3, reasoning=2)


def test_cached_tokens_are_part_of_the_input() -> None:
    known = used(openai, one("py-openai/chat_stream"))
    assert known == Usage(input=21, output=9, cache_read=4, reasoning=0)


def test_model_lists_have_openais_shape() -> None:
    listed = json.loads(openai.list_models(ENTRIES))
    assert listed["object"] == "list"
    assert listed["data"][0] == {
        "id": "gpt-4o",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "openai",
    }
    assert json.loads(openai.one_model(ENTRIES[1]))["id"] == "a/b"
    assert json.loads(openai.list_models([]))["data"] == []


def test_heartbeat_is_a_comment() -> None:
    assert openai.HEARTBEAT is not None
    assert openai.HEARTBEAT.startswith(b":")
    assert openai.HEARTBEAT.endswith(b"\n\n")
