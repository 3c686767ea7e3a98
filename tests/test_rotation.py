"""Keys rotated while a house with two workers serves: nothing fails, and old keys fade in time.

Every rotation is `PATCH /manage/v1/providers/{id}`, verified with the provider first;
some bring a key the provider refuses, and change nothing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import httpx2

from admin.demo.upstream import Received, Script, Upstream
from tests.backends import Backend
from tests.houses import PATIENCE, Running, house, wardgate

ROTATIONS = 100
RATE = 200.0  # requests a second
EVERY = 0.1  # seconds from one rotation to the next
MOST_OLD = 2.0  # seconds after the answer in which an old key may still be seen
REFUSED = "sk-refused-canary-0123456789abcdef"
CHAT = "/v1/chat/completions"


def key(number: int) -> str:
    return f"sk-rotated-canary-0123456789-{number:04d}"


@dataclass
class Provider:
    """Accepts every key but one, and notes when it saw which."""

    seen: list[tuple[float, str]] = field(default_factory=list)

    def __call__(self, received: Received) -> Script:
        sent = dict(received.headers).get(b"authorization", b"").decode().removeprefix("Bearer ")
        if sent == REFUSED:
            return Script(status=401, body=b'{"error":{"message":"Incorrect API key provided"}}')
        if received.path == CHAT:
            self.seen.append((time.monotonic(), sent))
            return Script(body=b'{"id":"c","object":"chat.completion","choices":[]}')
        if not sent:
            return Script(status=401, body=b'{"error":{"message":"no key"}}')
        return Script(body=b'{"object":"list","data":[{"id":"gpt-4.1"}]}')


async def test_rotating_under_load_fails_nothing_and_old_keys_fade(backend: Backend) -> None:
    provider = Provider()
    data = backend.folder
    async with Upstream(provider) as upstream:
        env = {
            "WARDGATE_PROVIDER_BASE_URLS": f"openai={upstream.url}",
            "WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8",
            **backend.env,
        }
        async with house(data, "--workers", "2", **env) as running:
            _, client_key, _ = await wardgate(data, "keys", "create", "app", **backend.env)
            async with httpx2.AsyncClient(
                base_url=running.admin, headers={"authorization": f"Bearer {running.token}"}
            ) as admin:
                made = await _create(admin)
                await _served(running, client_key.strip())
                stop = asyncio.Event()
                load = asyncio.create_task(_load(running, client_key.strip(), stop))
                answered = await _rotate(admin, made, load)
                stop.set()
                statuses = await load
    took = provider.seen[-1][0] - provider.seen[0][0]
    assert len(statuses) / took > RATE * 0.5, "the load was too thin to show anything"
    assert set(statuses) == {200}
    assert REFUSED not in {sent for _, sent in provider.seen}
    late = [when - answered[number] for when, number in _old(provider, answered)]
    assert max(late, default=0.0) <= MOST_OLD
    assert provider.seen[-1][1] == key(ROTATIONS)


async def _create(admin: httpx2.AsyncClient) -> str:
    body = {"vendor": "openai", "name": "main", "api_key": key(0)}
    answer = await admin.post("/manage/v1/providers", json=body)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


async def _served(running: Running, client_key: str) -> None:
    """Until both workers know the client key: they take turns with connections."""
    took = 0
    async with asyncio.timeout(PATIENCE):
        while took < 10:
            async with httpx2.AsyncClient(base_url=running.gateway) as client:
                took = took + 1 if await _ask(client, client_key) == 200 else 0


async def _ask(client: httpx2.AsyncClient, client_key: str) -> int:
    answer = await client.post(
        CHAT,
        json={"model": "gpt-4.1", "messages": [{"role": "user", "content": "hi"}]},
        headers={"authorization": f"Bearer {client_key}"},
    )
    return answer.status_code


async def _load(running: Running, client_key: str, stop: asyncio.Event) -> list[int]:
    """RATE requests a second until told to stop, over connections of both workers."""
    pending: set[asyncio.Task[int]] = set()
    began, sent = time.monotonic(), 0
    limits = httpx2.Limits(max_connections=32, max_keepalive_connections=32)
    statuses: list[int] = []
    async with httpx2.AsyncClient(base_url=running.gateway, limits=limits, timeout=30) as client:
        while not stop.is_set():
            sent += 1
            pending.add(asyncio.create_task(_ask(client, client_key)))
            await asyncio.sleep(max(0.0, began + sent / RATE - time.monotonic()))
            done = {task for task in pending if task.done()}
            statuses += [task.result() for task in done]
            pending -= done
        statuses += await asyncio.gather(*pending)
    return statuses


async def _rotate(
    admin: httpx2.AsyncClient, made: str, load: asyncio.Task[list[int]]
) -> dict[int, float]:
    """Rotate to key 1, 2, … and note when each was answered."""
    answered: dict[int, float] = {0: time.monotonic()}
    for number in range(1, ROTATIONS + 1):
        began = time.monotonic()
        assert not load.done()
        if number % 10 == 0:
            answer = await admin.patch(f"/manage/v1/providers/{made}", json={"api_key": REFUSED})
            assert answer.status_code == 422, answer.text
            assert answer.json()["error"]["code"] == "key_verification_failed"
        answer = await admin.patch(f"/manage/v1/providers/{made}", json={"api_key": key(number)})
        assert answer.status_code == 200, answer.text
        answered[number] = time.monotonic()
        await asyncio.sleep(max(0.0, began + EVERY - time.monotonic()))
    # Not a wait for anything: these seconds are what is looked at.
    await asyncio.sleep(MOST_OLD)
    return answered


def _old(provider: Provider, answered: dict[int, float]) -> list[tuple[float, int]]:
    """(when, number of the rotation that had replaced it) for each old key that was seen."""
    numbers = {key(number): number for number in answered}
    return [
        (when, numbers[sent] + 1)
        for when, sent in provider.seen
        if numbers[sent] + 1 in answered and when > answered[numbers[sent] + 1]
    ]
