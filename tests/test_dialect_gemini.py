"""The gemini dialect: paths, headers, errors with a number, terminal chunks, merged usage."""

from __future__ import annotations

import json

import pytest

from gateway.dialects import gemini
from gateway.errors import GatewayError
from gateway.shapes import Usage
from tests.dialect_cases import ENTRIES, ERRORS, config, ended, event, target, used
from tests.recorded import Recorded, recorded

CONFIG = config("gemini", "https://generativelanguage.googleapis.com/v1beta", provider="google")
ALL = [r for r in recorded("py-genai", "node-genai", "aisdk-google") if b":" in r.path]
STREAMS = [r for r in ALL if r.kind.startswith("text/event-stream")]


@pytest.mark.parametrize("version", ["v1", "v1beta"])
@pytest.mark.parametrize("name", ["m:", "m%3A", "a/b@1:"])
def test_models_keep_their_spelling_below_the_base_url(version: str, name: str) -> None:
    sent = target(CONFIG, f"/{version}/models/{name}streamGenerateContent", "alt=sse&key=wg_1")
    assert sent == f"/v1beta/models/{name}streamGenerateContent?alt=sse"


@pytest.mark.parametrize(
    ("auth_type", "expected"),
    [
        ("api_key", [(b"x-goog-api-key", b"k")]),
        ("bearer", [(b"authorization", b"Bearer k")]),
        ("none", []),
    ],
)
def test_authorize_uses_googles_header_for_keys(
    auth_type: str, expected: list[tuple[bytes, bytes]]
) -> None:
    assert gemini.authorize(config("gemini", "https://h", auth_type=auth_type), b"k") == expected
    assert gemini.defaults(CONFIG) == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: str(e.status))
def test_errors_have_googles_shape(error: GatewayError) -> None:
    rendered = gemini.render(error, "req_1")
    said = json.loads(rendered.body)["error"]
    assert rendered.status == error.status == said["code"]
    assert set(said) == {"code", "message", "status"}
    assert said["status"].isupper()
    streamed = gemini.error_event(error, "req_1")
    assert streamed.endswith(b"\r\n\r\n")
    assert ended(gemini, "gemini", streamed) == [True]
    assert json.loads(streamed[6:])["error"] == said


def test_statuses_are_googles_own_words() -> None:
    statuses = {e.status: json.loads(gemini.render(e, "").body)["error"]["status"] for e in ERRORS}
    assert statuses[400] == statuses[413] == "INVALID_ARGUMENT"
    assert (statuses[401], statuses[403]) == ("UNAUTHENTICATED", "PERMISSION_DENIED")
    assert (statuses[404], statuses[429]) == ("NOT_FOUND", "RESOURCE_EXHAUSTED")
    assert (statuses[502], statuses[504]) == ("UNAVAILABLE", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda r: r.name)
def test_recorded_streams_end_with_their_last_event_only(exchange: Recorded) -> None:
    ends = ended(gemini, "gemini", exchange.answer)
    assert ends == [False] * (len(ends) - 1) + [True]


@pytest.mark.parametrize("exchange", ALL, ids=lambda r: r.name)
def test_recorded_usage_has_thoughts_in_the_output(exchange: Recorded) -> None:
    known = used(gemini, exchange)
    generates = b"enerateContent" in exchange.path
    assert known == (Usage(input=21, output=13, reasoning=4) if generates else None)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"candidates":[{"finishReason":"STOP"}]}', True),
        ('{"candidates":[{},{"finishReason":"MAX_TOKENS"}]}', True),
        ('{"promptFeedback":{"blockReason":"SAFETY"}}', True),
        ('{"error":{"code":503}}', True),
        ('{"candidates":[{"finishReason":null}]}', False),
        ('{"candidates":[{"finishReason":"FINISH_REASON_UNSPECIFIED"}]}', False),
        ('{"promptFeedback":{"safetyRatings":[]},"candidates":[{}]}', False),
        ('{"promptFeedback":{}}', False),
        ('{"candidates":[{"content":{"parts":[{"text":"\\"finishReason\\""}]}}]}', False),
        ('{"candidates":[{"content":{"finishReason":"STOP"}}]}', False),
        ('{"candidates":[{"finishReason":"ST', False),
        ('{"candidates":[]}', False),
    ],
)
def test_ends_is_a_finish_a_block_or_an_error(data: str, expected: bool) -> None:
    assert gemini.ends("gemini", event(data)) is expected


def test_reports_of_a_stream_are_merged() -> None:
    known: Usage | None = None
    for data in (
        '{"usageMetadata":{"promptTokenCount":7}}',
        '{"usageMetadata":{"promptTokenCount":7,"thoughtsTokenCount":5}}',
        '{"candidates":[]}',
        '{"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":3,'
        '"cachedContentTokenCount":2,"toolUsePromptTokenCount":1}}',
    ):
        known = gemini.usage(data.encode(), known)
    assert known == Usage(input=9, output=8, cache_read=2, reasoning=5)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('[{"usageMetadata":{"promptTokenCount":1}},{"usageMetadata":{"promptTokenCount":2}}]', 2),
        ('{"usageMetadata":{"promptTokenCount":0}}', 0),
        ('{"usageMetadata":{"promptTokenCount":-1}}', None),
        ('{"usageMetadata":{}}', None),
    ],
)
def test_usage_never_invents_a_number(payload: str, expected: int | None) -> None:
    known = gemini.usage(payload.encode(), None)
    assert known == Usage(input=expected)


@pytest.mark.parametrize(
    "payload", ["", '{"usageMetadata":null}', '{"usageMetadata":{', '{"usageMetadata":7}', "[]"]
)
def test_nothing_reported_is_nothing_known(payload: str) -> None:
    assert gemini.usage(payload.encode(), None) is None


def test_model_lists_have_googles_shape() -> None:
    listed = json.loads(gemini.list_models(ENTRIES))
    assert listed["models"][0]["name"] == "models/gpt-4o"
    assert "generateContent" in listed["models"][0]["supportedGenerationMethods"]
    assert json.loads(gemini.one_model(ENTRIES[1]))["name"] == "models/a/b"


def test_there_is_no_heartbeat_its_client_would_bear() -> None:
    assert gemini.HEARTBEAT is None
