"""A route at work: the next target is tried when one fails, and never when it may have acted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from admin.demo.upstream import Script
from gateway.shapes import RateLimit
from tests.rig import BUSY, JSON, OK, SSE, STREAM, Rig, attempts, failing, good, move, rig
from tests.serve import Answer, RawClient
from tests.test_disconnect import full_listener


def fallbacks(provider: str, reason: str) -> float:
    found = REGISTRY.get_sample_value(
        "wardgate_fallbacks_total", {"provider": provider, "reason": reason}
    )
    return found or 0.0


async def test_the_first_target_is_asked_for_its_own_model_and_its_answer_left_alone() -> None:
    async with rig(good(), good()) as at:
        answer = await at.ask()
        assert (answer.status, answer.body) == (200, OK)
        assert answer.header(b"wardgate-config") == b"t0"
        assert attempts(answer) is None
        assert at.counts == [1, 0]
        assert at.upstreams[0] is not None
        assert at.upstreams[0].received[0].json() == {
            "model": "model-0",
            "stream": False,
            "messages": [],
        }


@pytest.mark.parametrize("status", [429, 500, 501, 502, 503, 504, 505, 529, 599])
async def test_the_next_target_is_tried_when_one_answers_that_it_could_not(status: int) -> None:
    before = fallbacks("custom:t0", f"http_{status}" if status in (429, 500) else "http_other")
    async with rig(failing(status), good()) as at:
        answer = await at.ask()
        assert (answer.status, answer.body) == (200, OK)
        assert answer.header(b"wardgate-config") == b"t1"
        assert answer.header(b"wardgate-provider") == b"custom:t1"
        assert attempts(answer) == b"2"
        assert answer.header(b"retry-after") is None
        assert at.counts == [1, 1]
        assert [one.json()["model"] for up in at.upstreams if up for one in up.received] == [
            "model-0",
            "model-1",
        ]
    if status in (429, 500):
        assert fallbacks("custom:t0", f"http_{status}") == before + 1
    if status in (501, 505, 599):
        assert fallbacks("custom:t0", "http_other") == before + 1


async def test_the_next_target_is_tried_when_one_cannot_be_reached() -> None:
    before = fallbacks("custom:t0", "upstream_failed")
    async with rig(None, good()) as at:
        answer = await at.ask()
        assert (answer.status, attempts(answer)) == (200, b"2")
        assert at.counts == [0, 1]
    assert fallbacks("custom:t0", "upstream_failed") == before + 1


async def test_the_next_target_is_tried_when_one_takes_too_long_to_connect() -> None:
    with full_listener() as port:
        async with rig(None, good(), connect_timeout=0.05) as at:
            move(at, 0, base_url=f"http://127.0.0.1:{port}/v1")
            answer = await at.ask()
            assert (answer.status, attempts(answer)) == (200, b"2")


async def test_the_next_target_is_tried_when_ones_address_is_not_permitted() -> None:
    async with rig(good(), good()) as at:
        move(at, 0, base_url="http://10.0.0.1/v1")
        answer = await at.ask()
        assert (answer.status, attempts(answer)) == (200, b"2")
        assert at.counts == [0, 1]


async def test_the_next_target_is_tried_when_ones_key_does_not_open() -> None:
    async with rig(good(), good(), keyless=frozenset({0})) as at:
        answer = await at.ask()
        assert (answer.status, attempts(answer)) == (200, b"2")
        assert at.counts == [0, 1]


async def test_targets_are_tried_in_order_and_each_once() -> None:
    async with rig(failing(500), None, failing(429), failing(503), good()) as at:
        answer = await at.ask()
        assert (answer.status, attempts(answer)) == (200, b"5")
        assert at.counts == [1, 0, 1, 1, 1]
        arrived = [up.received[0].arrived_at for up in at.upstreams if up is not None]
        assert arrived == sorted(arrived)


async def test_the_last_targets_answer_is_passed_on_when_all_fail() -> None:
    last = b'{"error":{"message":"the last one","type":"overloaded","code":null}}'
    async with rig(failing(500), failing(529, last)) as at:
        answer = await at.ask()
        assert (answer.status, answer.body) == (529, last)
        assert answer.header(b"retry-after") == b"7"
        assert answer.header(b"wardgate-config") == b"t1"
        assert attempts(answer) == b"2"
        assert at.counts == [1, 1]


async def test_our_own_error_is_given_when_the_last_target_does_not_answer() -> None:
    async with rig(failing(500), None) as at:
        answer = await at.ask()
        assert answer.status == 502
        assert json.loads(answer.body)["error"]["code"] == "upstream_failed"
        assert attempts(answer) == b"2"
        assert at.counts == [1, 0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422])
async def test_any_other_answer_is_the_answer(status: int) -> None:
    async with rig(failing(status), good()) as at:
        answer = await at.ask()
        assert (answer.status, attempts(answer)) == (status, None)
        assert at.counts == [1, 0]


async def test_a_post_is_not_sent_again_when_no_answer_came_in_time() -> None:
    never = asyncio.Event()
    async with rig(Script(before_head=never), good(), first_byte_timeout=0.05) as at:
        answer = await at.ask()
        assert answer.status == 504
        assert json.loads(answer.body)["error"]["code"] == "upstream_timeout"
        assert at.counts == [1, 0]


@pytest.mark.parametrize("cut", ["fin", "rst"])
async def test_a_post_is_not_sent_again_when_the_connection_is_lost(cut: Any) -> None:
    async with rig(Script(headers=JSON, body=OK, cut_wire_at=9, cut=cut), good()) as at:
        answer = await at.ask()
        assert answer.status == 502
        assert at.counts == [1, 0]


async def test_a_post_is_not_sent_again_when_its_answer_breaks_off_before_its_first_byte() -> None:
    async with rig(Script(headers=SSE, body=STREAM, cut_at=0), good()) as at:
        answer = await at.ask(stream=True)
        assert answer.status == 502
        assert at.counts == [1, 0]


async def test_a_redirect_leads_nowhere() -> None:
    away = Script(status=307, headers=((b"location", b"http://127.0.0.1:9/"),))
    async with rig(away, good()) as at:
        answer = await at.ask()
        assert json.loads(answer.body)["error"]["code"] == "upstream_redirect"
        assert at.counts == [1, 0]


async def test_a_stream_begins_with_the_target_that_serves_it() -> None:
    events = Script(headers=SSE, chunks=[STREAM[:40], STREAM[40:]], framing="chunked")
    async with rig(failing(503), None, events, good()) as at:
        answer = await at.ask(stream=True)
        assert (answer.status, answer.body, answer.ending) == (200, STREAM, "clean")
        assert attempts(answer) == b"3"
        assert at.counts == [1, 0, 1, 0]


async def test_a_stream_that_has_begun_goes_nowhere_else() -> None:
    cut = Script(headers=SSE, body=STREAM, cut_at=60)
    async with rig(cut, good()) as at:
        answer = await at.ask(stream=True)
        assert (answer.status, answer.ending) == (200, "cut")
        assert at.counts == [1, 0]


async def test_an_answer_that_was_given_up_is_closed_before_the_next_target_is_asked() -> None:
    """Its body would be endless: nobody reads it, and nobody waits for it."""
    never = asyncio.Event()
    endless = Script(status=503, chunks=[BUSY, BUSY], framing="chunked", gates=[None, never])
    async with rig(endless, good()) as at:
        for turn in range(1, 4):
            assert (await at.ask()).status == 200
            assert at.upstreams[0] is not None
            first = at.upstreams[0].received[turn - 1]
            async with asyncio.timeout(1):
                await first.closed.wait()


@pytest.mark.parametrize("failed", [0, 1])
async def test_the_client_may_leave_during_any_attempt(failed: int) -> None:
    never = asyncio.Event()
    scripts = [failing(503)] * failed + [Script(before_head=never), good()]
    async with rig(*scripts) as at:
        waiting = at.upstreams[failed]
        assert waiting is not None
        async with RawClient(at.house.port) as client:
            await client.send(at.request(b'{"model":"smart"}'))
            received = await waiting.wait_received()
        async with asyncio.timeout(1):
            await received.closed.wait()
        assert at.counts == [1] * (failed + 1) + [0]


async def test_a_body_that_was_streamed_on_is_not_sent_a_second_time() -> None:
    """A form larger than what is read of it: after it began to be sent, nobody has it any more."""
    async with rig(failing(503), good()) as at:
        answer = await upload(at)
        assert (answer.status, attempts(answer)) == (503, None)
        assert at.counts == [1, 0]


async def test_a_body_that_was_not_sent_yet_goes_to_the_next_target_whole() -> None:
    async with rig(None, good(), keyless=frozenset()) as at:
        answer = await upload(at)
        assert (answer.status, attempts(answer)) == (200, b"2")
        assert at.upstreams[1] is not None
        received = at.upstreams[1].received[0]
        assert received.body == form("model-1")


async def test_a_small_form_is_sent_again() -> None:
    async with rig(failing(503), good()) as at:
        answer = await upload(at, size=100)
        assert (answer.status, attempts(answer)) == (200, b"2")
        assert [up.received[0].body for up in at.upstreams if up] == [
            form("model-0", 100),
            form("model-1", 100),
        ]


def form(model: str, size: int = 300_000) -> bytes:
    part = b'--xx\r\ncontent-disposition: form-data; name="model"\r\n\r\n' + model.encode()
    file = b'\r\n--xx\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return part + file + b"x" * size + b"\r\n--xx--\r\n"


async def upload(at: Rig, size: int = 300_000) -> Answer:
    kind = {"content-type": "multipart/form-data; boundary=xx"}
    path = "/v1/audio/transcriptions"
    await at.client.send(at.request(form("smart", size), kind, path=path))
    answer = await at.client.answer("POST")
    at.seen.append(answer)
    return answer


async def test_a_request_without_a_route_fails_as_ever() -> None:
    async with rig(failing(503), good()) as at:
        answer = await at.ask("custom:t0/x")
        assert (answer.status, answer.body, attempts(answer)) == (503, BUSY, None)
        assert at.counts == [1, 0]


async def test_a_model_of_the_list_can_be_the_routes_name() -> None:
    async with rig(good()) as at:
        headers = {"authorization": f"Bearer {at.key}"}
        listed = await at.client.request("GET", "/v1/models", headers)
        entries = json.loads(listed.body)["data"]
        assert [(one["id"], one["owned_by"]) for one in entries] == [("smart", "wardgate")]
        one = await at.client.request("GET", "/v1/models/smart", headers)
        assert json.loads(one.body)["id"] == "smart"


async def test_the_trace_shows_the_route_and_asks_nobody(limits_url: str) -> None:
    limits = {0: RateLimit(1, 3600)}
    async with rig(None, good(), limits=limits, redis_url=limits_url) as at:
        body = b'{"model":"smart"}'
        told = await at.client.request(
            "POST",
            "/v1/_explain",
            {"authorization": f"Bearer {at.key}", "content-type": "application/json"},
            body,
        )
        trace = json.loads(told.body)
        assert [aim["usable"] for aim in trace["route"]["targets"]] == [True, True]
        assert trace["chosen"]["alias"] == "t0"
        assert [limit["policy"] for limit in trace["limits"]] == ["config"]
        assert at.counts == [0, 0]


async def test_an_azure_target_is_asked_for_its_deployment_in_body_or_path() -> None:
    async with rig(failing(503), good()) as at:
        azure = {"dialect": "azure", "auth_type": "bearer"}
        table = {"deployments": {"model-1": "prod one"}}
        move(at, 1, **azure, settings=table)
        assert (await at.ask()).status == 200
        assert at.upstreams[1] is not None
        assert at.upstreams[1].received[0].json()["model"] == "prod one"
        path = "/openai/deployments/smart/chat/completions"
        await at.client.send(at.request(b'{"messages":[]}', path=path))
        answer = await at.client.answer("POST")
        assert (answer.status, attempts(answer)) == (200, None)
        received = at.upstreams[1].received[1]
        assert received.path == "/openai/deployments/prod%20one/chat/completions"
        assert received.body == b'{"messages":[]}'
