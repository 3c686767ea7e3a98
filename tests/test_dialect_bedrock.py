"""The bedrock dialect: paths, headers, errors by type, terminal frames, usage where it stands."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway.dialects import bedrock
from gateway.errors import GatewayError, Malformed
from gateway.eventstream import EXCEPTION, Reader
from gateway.shapes import Usage
from gateway.sse import Event
from tests.dialect_cases import ENTRIES, ERRORS, config, target
from tests.recorded import Recorded, recorded

REGION = "eu-west-1"
CONFIG = config(
    "bedrock",
    f"https://bedrock-runtime.{REGION}.amazonaws.com",
    provider="amazon-bedrock",
    auth_type="aws_sigv4",
    settings={"region": REGION},
)
SCOPED = "/v1/acme/shop/aws-bedrock/bedrock-runtime"
STREAMS = [r for r in recorded("py-boto3") if r.kind.endswith("eventstream")]
ARN = "arn:aws:bedrock:eu-west-1:1:inference-profile"


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/model/a.b-v1%3A0/converse", "/model/a.b-v1%3A0/converse"),
        ("/model/a.b-v1:0/converse-stream", "/model/a.b-v1:0/converse-stream"),
        (f"/model/{ARN}%2Fx/invoke", f"/model/{ARN}%2Fx/invoke"),
        (f"/model/{ARN}%2fx/invoke", f"/model/{ARN}%2fx/invoke"),
        (f"/model/{ARN}/x/invoke", f"/model/{ARN}%2Fx/invoke"),
        (f"{SCOPED}/{REGION}/model/m%3A0/converse", "/model/m%3A0/converse"),
        (f"{SCOPED}/{REGION}/model/{ARN}%2Fx/converse", f"/model/{ARN}%2Fx/converse"),
        (f"{SCOPED}/{REGION}/async-invoke", "/async-invoke"),
        ("/v1/acme/shop/amazon-bedrock/model/m/count-tokens", "/model/m/count-tokens"),
    ],
)
def test_models_keep_their_spelling_and_their_slashes_encoded(path: str, sent: str) -> None:
    assert target(CONFIG, path) == sent


def test_a_base_url_of_its_own_has_a_path() -> None:
    own = config("bedrock", "https://h/base", settings={"region": REGION})
    assert target(own, "/model/m/converse", "a=1") == "/base/model/m/converse?a=1"


def test_signatures_in_the_query_stay_here() -> None:
    query = "X-Amz-Credential=AKIA&a=1&X-Amz-Signature=0&x-amz-security-token=t"
    assert target(CONFIG, "/model/m/converse", query) == "/model/m/converse?a=1"


def test_another_region_in_the_path_is_refused() -> None:
    with pytest.raises(Malformed, match=REGION):
        target(CONFIG, f"{SCOPED}/us-east-1/model/m/converse")


@pytest.mark.parametrize("model", ["..%2Fx", "a%2F..%2Fb", "a%2F%2Fb", "%2Fa", "a%5Cb", "a%2e%2e%"])
def test_an_id_that_climbs_is_refused(model: str) -> None:
    with pytest.raises(Malformed):
        target(CONFIG, f"/model/{model}/converse")


@pytest.mark.parametrize("auth_type", ["bearer", "api_key"])
def test_an_api_key_is_a_bearer_token(auth_type: str) -> None:
    given = config("bedrock", "https://h", provider="amazon-bedrock", auth_type=auth_type)
    assert bedrock.authorize(given, b"k") == [(b"authorization", b"Bearer k")]
    assert bedrock.defaults(given) == []
    assert bedrock.HEARTBEAT is None


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: str(e.status))
def test_errors_have_bedrocks_shape(error: GatewayError) -> None:
    rendered = bedrock.render(error, "req_1")
    headers = dict(rendered.headers)
    assert (rendered.status, json.loads(rendered.body)) == (
        error.status,
        {"message": error.message},
    )
    assert headers[b"x-amzn-errortype"].endswith(b"Exception")
    assert headers[b"x-amzn-requestid"] == b"req_1"
    streamed = bedrock.error_event(error, "req_1")
    [event] = Reader().feed(streamed)
    assert event == Event(EXCEPTION, rendered.body)
    assert bedrock.ends("bedrock", event)


def test_types_of_errors_are_those_boto3_knows() -> None:
    types = {e.status: dict(bedrock.render(e, "").headers)[b"x-amzn-errortype"] for e in ERRORS}
    assert types[400] == types[413] == types[431] == b"ValidationException"
    assert types[401] == types[403] == b"AccessDeniedException"
    assert (types[404], types[429]) == (b"ResourceNotFoundException", b"ThrottlingException")
    assert (types[502], types[503]) == (b"InternalServerException", b"ServiceUnavailableException")


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda r: r.name)
def test_recorded_streams_end_with_their_last_event_only(exchange: Recorded) -> None:
    ends = [bedrock.ends("bedrock", event) for event in Reader().feed(exchange.answer)]
    invoked = b"invoke" in exchange.path  # their framing says where they end
    assert ends == [False] * (len(ends) - 1) + [not invoked]


def used(exchange: Recorded) -> Usage | None:
    if not exchange.kind.endswith("eventstream"):
        return bedrock.usage(exchange.answer, None)
    known: Usage | None = None
    for event in Reader().feed(exchange.answer):
        known = bedrock.usage(event.data, known)
    return known


@pytest.mark.parametrize(
    "exchange",
    [r for r in recorded("py-boto3") if "converse" in r.name and "err" not in r.name],
    ids=lambda r: r.name,
)
def test_recorded_usage_has_cached_tokens_in_the_input(exchange: Recorded) -> None:
    assert used(exchange) == Usage(input=25, output=9, cache_read=4, cache_write=0)


@pytest.mark.parametrize("name", ["invoke", "invoke_stream"])
def test_recorded_invocations_report_what_the_model_says(name: str) -> None:
    [exchange] = [r for r in recorded("py-boto3") if r.name.endswith("/" + name)]
    known = used(exchange)
    assert known is not None
    assert (known.output, bool(known.input)) == (9, True)


def piece(event: Any) -> str:
    return json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "ab"})


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('{"usage":{"inputTokens":0}}', Usage(input=0)),
        ('{"usage":{"inputTokens":-1,"outputTokens":2}}', Usage(output=2)),
        ('{"usage":{}}', None),
        ('{"usage":null}', None),
        ('{"usage":{"inputTokens":"x"}}', None),
        ('{"usage":{', None),
        ('{"output":{"usage":{"inputTokens":1}}}', None),
        ('{"bytes":"!"}', None),
        ('{"bytes":7}', None),
        (piece({"type": "ping"}), None),
        (piece({"text": "invocationMetrics"}), None),
        (piece({"amazon-bedrock-invocationMetrics": {"inputTokenCount": 3}}), Usage(input=3)),
        (
            piece({"amazon-bedrock-invocationMetrics": {"cacheReadInputTokenCount": 3}}),
            Usage(cache_read=3),
        ),
        ("", None),
        ("[]", None),
    ],
)
def test_usage_never_invents_a_number(payload: str, expected: Usage | None) -> None:
    assert bedrock.usage(payload.encode(), None) == expected


def test_what_reports_nothing_changes_nothing() -> None:
    known = Usage(input=1)
    for payload in ("{}", '{"usage":{}}', piece({}), '{"usage":'):
        assert bedrock.usage(payload.encode(), known) is known


def test_model_lists_have_bedrocks_shape() -> None:
    listed = json.loads(bedrock.list_models(ENTRIES))["modelSummaries"]
    assert [one["modelId"] for one in listed] == ["gpt-4o", "a/b"]
    assert listed[0]["providerName"] == "openai"
    assert json.loads(bedrock.one_model(ENTRIES[1]))["modelDetails"]["modelId"] == "a/b"
