"""Testing a provider's key: every way it can end, on real sockets, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from admin.configure import configs
from admin.configure.desk import Desk
from admin.demo.upstream import Script, Upstream
from admin.permit import LOCAL
from admin.probe import LARGEST, Offered, Prober
from gateway.shapes import GLOBAL, Secret
from gateway.store import configs as rows
from gateway.store import proofs
from tests import desks, probing
from tests.backends import Backend
from tests.certificate import certificate, server_side
from tests.desks import KEY, add, later, refused
from tests.ports import dead_port
from tests.probing import in_json, models, probe


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with probing.desk(backend) as opened:
        yield opened


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    made = Prober()
    yield made
    await made.aclose()


async def proof_of(desk: Desk, config_id: str) -> tuple[int, str] | None:
    async with desk.store.read() as conn:
        found = await proofs.find(conn, config_id)
    return (found.secret_version, found.outcome) if found else None


async def test_key_that_works_is_ok_and_its_models_are_listed(desk: Desk, prober: Prober) -> None:
    probed, [received] = await probe(desk, prober, models("gpt-a", "gpt-b"))
    assert probed.ok
    assert (probed.status, probed.models, probed.source) == (200, ("gpt-a", "gpt-b"), "provider")
    assert probed.message == "openai took the key and lists 2 models"
    assert (received.method, received.path, received.body) == ("GET", "/v1/models", b"")
    assert received.values(b"authorization") == [f"Bearer {KEY}".encode()]
    assert received.values(b"accept-encoding") == [b"identity"]
    assert received.values(b"user-agent")[0].startswith(b"wardgate/")


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_key_is_told(desk: Desk, prober: Prober, status: int) -> None:
    said = in_json({"error": {"message": "The account is closed."}}, status)
    probed, _ = await probe(desk, prober, said)
    assert (probed.outcome, probed.status, probed.models) == ("key_refused", status, ())
    assert probed.message == f"openai refused the key (status {status}): The account is closed."


async def test_google_refuses_a_key_with_400(desk: Desk, prober: Prober) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    facts = {"code": 400, "message": "API key not valid.", "details": details}
    probed, _ = await probe(desk, prober, in_json({"error": facts}, 400), provider="google")
    assert probed.outcome == "key_refused"


async def test_xai_refuses_a_key_with_400_and_escapes(desk: Desk, prober: Prober) -> None:
    said = {"code": "Client specified an invalid argument", "error": "Incorrect%20API%20key"}
    probed, _ = await probe(desk, prober, in_json(said, 400), provider="xai")
    assert probed.outcome == "key_refused"


async def test_other_400s_are_not_held_against_the_key(desk: Desk, prober: Prober) -> None:
    probed, _ = await probe(desk, prober, in_json({"error": {"message": "no such field"}}, 400))
    assert probed.outcome == "bad_answer"
    assert probed.message == "openai answered with status 400: no such field"


@pytest.mark.parametrize(
    "echo",
    [
        f"Incorrect API key provided: {KEY}.",
        f"bad key {KEY[:24]}… sent",
        f"bad key {KEY[10:20]}",
        f"bad key {KEY.replace('-', '%2D')}",
    ],
)
async def test_sentence_that_tells_of_the_key_is_not_repeated(
    desk: Desk, prober: Prober, echo: str
) -> None:
    probed, _ = await probe(desk, prober, in_json({"error": {"message": echo}}, 401))
    assert probed.message == "openai refused the key (status 401)"


async def test_sentence_is_masked_cut_and_kept_to_one_line(desk: Desk, prober: Prober) -> None:
    other = "sk-ant-api03-" + "z" * 40
    said = {"error": {"message": f"not\n yours: {other} " + "word " * 100}}
    probed, _ = await probe(desk, prober, in_json(said, 500))
    assert other not in probed.message
    assert "not yours: sk-ant-api03-...zzzz word" in probed.message
    assert len(probed.message) < 250
    assert "\n" not in probed.message


async def test_key_given_back_as_a_model_is_not_listed(desk: Desk, prober: Prober) -> None:
    probed, _ = await probe(desk, prober, models("gpt-a", KEY, f"x-{KEY}"))
    assert probed.models == ("gpt-a",)


async def test_restricted_key_that_may_not_list_is_not_refused(desk: Desk, prober: Prober) -> None:
    words = "You have insufficient permissions for this operation. Missing scopes: api.model.read."
    probed, _ = await probe(desk, prober, in_json({"error": {"message": words}}, 403))
    assert (probed.outcome, probed.source) == ("unlisted", "catalog")
    assert "gpt-4o" in probed.models


async def test_too_many_requests_say_nothing_of_the_key(desk: Desk, prober: Prober) -> None:
    probed, _ = await probe(desk, prober, Script(status=429))
    assert (probed.outcome, probed.status) == ("rate_limited", 429)


async def test_redirect_is_not_followed(desk: Desk, prober: Prober) -> None:
    async with Upstream(models("evil")) as evil:
        place = [(b"location", evil.url.encode())]
        probed, _ = await probe(desk, prober, Script(status=307, headers=place))
        assert probed.outcome == "bad_answer"
        assert "redirect" in probed.message
        assert evil.connections == 0


async def test_nobody_there_is_unreachable(desk: Desk, prober: Prober) -> None:
    view = await add(desk, base_url=f"http://127.0.0.1:{dead_port()}/v1")
    probed = await prober.stored(desk, view.id)
    assert (probed.outcome, probed.status) == ("unreachable", None)


async def test_server_that_speaks_no_http_is_unreachable(desk: Desk, prober: Prober) -> None:
    probed, _ = await probe(desk, prober, Script(raw=b"220 mail.example.com ESMTP\r\n"))
    assert probed.outcome == "unreachable"


async def test_address_nobody_allowed_is_not_connected_to(backend: Backend, prober: Prober) -> None:
    async with desks.opened(backend, allowed_upstream_cidrs=()) as desk, Upstream() as upstream:
        key = Secret(KEY.encode())
        target = Offered(
            provider="custom:mine",
            dialect="openai",
            base_url=upstream.url,
            auth_type="api_key",
            settings={},
            key=key,
        )
        probed = await prober.offered(desk, target)
        assert probed.outcome == "unreachable"
        assert "may connect to" in probed.message
        assert upstream.connections == 0


async def test_certificate_nobody_trusts_is_told_apart(
    tmp_path: Path, desk: Desk, prober: Prober
) -> None:
    file = certificate(tmp_path, "127.0.0.1")
    async with Upstream(models(), ssl=server_side(file)) as upstream:
        view = await add(desk, base_url=upstream.url)
        probed = await prober.stored(desk, view.id)
        assert probed.outcome == "tls"
        assert upstream.received == []


async def test_server_without_tls_is_told_apart(desk: Desk, prober: Prober) -> None:
    async with Upstream(models()) as upstream:
        view = await add(desk, base_url=f"https://127.0.0.1:{upstream.port}/v1")
        assert (await prober.stored(desk, view.id)).outcome == "tls"
        assert KEY.encode() not in b"".join(map(bytes, upstream.wire))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Script(before_head=asyncio.Event()),  # an event is of one test's loop
        lambda: replace(models("gpt-a"), cut_at=5, cut="stall"),
        lambda: replace(models("gpt-a"), chunks=[b"x"] * 100, delay=0.01),
    ],
    ids=["no head", "stalls in the body", "drips"],
)
async def test_silence_and_dripping_end_in_time(
    backend: Backend, prober: Prober, make: Callable[[], Script]
) -> None:
    async with desks.opened(backend, probe_timeout=0.1) as desk, Upstream(make()) as upstream:
        view = await add(desk, base_url=upstream.url)
        async with asyncio.timeout(2):
            probed = await prober.stored(desk, view.id)
        assert probed.outcome == "timeout"
        assert probed.message == "openai did not answer in 0.1 s"
        assert probed.latency_ms >= 100
        await upstream.wait_disconnected()


@pytest.mark.parametrize(
    "script",
    [
        Script(body=b""),
        Script(body=b"<html>log in</html>"),
        Script(body=b'{"data": {}}'),
        Script(body=b'{"models_are": []}'),
        Script(body=b'{"data": [{"id": "gpt-a"}'),
        Script(body=b"[" * 100_000),
        Script(body=b'{"data": ["\xff"]}'),
        in_json({"error": {"message": "no"}}),
        replace(models("gpt-a"), cut_at=9),
        Script(status=500, body=b"{}"),
        Script(status=404, body=b"{}"),
    ],
    ids=lambda s: f"{s.status} {s.body[:20]!r} {s.cut_at}",
)
async def test_answer_that_is_no_list_is_told(desk: Desk, prober: Prober, script: Script) -> None:
    probed, _ = await probe(desk, prober, script)
    assert (probed.outcome, probed.models) == ("bad_answer", ())


async def test_answer_without_end_is_not_read(desk: Desk, prober: Prober) -> None:
    piece = b" " * (1 << 18)
    script = Script(chunks=[piece] * (2 * LARGEST // len(piece)), framing="chunked")
    probed, _ = await probe(desk, prober, script)
    assert (probed.outcome, probed.message) == (
        "bad_answer",
        "openai answered with more than 4 MiB",
    )


async def test_error_of_any_length_is_read_in_part(desk: Desk, prober: Prober) -> None:
    script = Script(status=401, chunks=[b" " * 65536] * 256, framing="chunked")
    probed, _ = await probe(desk, prober, script)
    assert probed.outcome == "key_refused"


async def test_config_without_a_key_is_not_sent(desk: Desk, prober: Prober) -> None:
    view = await add(desk, secret=None)
    probed = await prober.stored(desk, view.id)
    assert (probed.outcome, probed.message) == ("unsent", "this config of openai has no key")
    assert await proof_of(desk, view.id) is None


async def test_moved_key_does_not_open_and_is_not_sent(desk: Desk, prober: Prober) -> None:
    async with Upstream(models()) as upstream:
        view = await add(desk, base_url=upstream.url)
        async with desk.store.write(GLOBAL) as conn:
            await rows.alter(conn, view.id, {"base_url": "http://127.0.0.1:9/v1"})
        probed = await prober.stored(desk, view.id)
        assert probed.outcome == "unsent"
        assert "cannot be opened" in probed.message


async def test_unknown_config_is_not_found(desk: Desk, prober: Prober) -> None:
    unknown = "01936f6e-0000-7000-8000-000000000000"
    assert await refused(prober.stored(desk, unknown)) == ("not_found", None)


async def test_proof_speaks_of_one_key_and_is_undone_only_by_a_refusal(
    desk: Desk, prober: Prober
) -> None:
    answers = [models("a"), Script(status=500), Script(status=401), Script(status=429)]
    answers += [Script(status=429), models("a")]
    async with Upstream(lambda received: answers.pop(0)) as upstream:
        view = await add(desk, base_url=upstream.url)
        seen = []
        for step in range(6):
            if step == 4:
                change = configs.ConfigChange(secret=Secret(b"sk-another-key-0123456789"))
                await configs.change(desk, LOCAL, view.id, GLOBAL, change)
            later(desk)
            await prober.stored(desk, view.id)
            seen.append(await proof_of(desk, view.id))
    assert seen == [
        (1, "ok"),
        (1, "ok"),
        (1, "key_refused"),
        (1, "key_refused"),
        (2, "rate_limited"),
        (2, "ok"),
    ]


async def test_probe_changes_no_routing(desk: Desk, prober: Prober) -> None:
    async with Upstream(models("a")) as upstream:
        view = await add(desk, base_url=upstream.url)
        before = (await desks.table(desk)).revision
        await prober.stored(desk, view.id)
        assert (await desks.table(desk)).revision == before


async def test_prober_serves_again_after_it_was_closed(desk: Desk, prober: Prober) -> None:
    async with Upstream(models("a")) as upstream:
        view = await add(desk, base_url=upstream.url)
        assert (await prober.stored(desk, view.id)).ok
        await prober.aclose()
        assert (await prober.stored(desk, view.id)).ok
