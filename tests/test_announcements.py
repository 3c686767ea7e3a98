"""What is told of a store's revision over a real Redis, and what holds when Redis is ill."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from admin.configure.desk import Desk
from gateway.channel import name
from gateway.errors import StartRefused
from gateway.process.hearsay import LOOK_EVERY, Hearsay
from gateway.process.publish import Publisher, Source
from gateway.shapes import Secret
from gateway.store.compile import revision
from gateway.store.engine import open_store
from tests import servers
from tests.backends import Backend
from tests.certificate import certificate
from tests.desks import add, opened, refused
from tests.houses import until
from tests.left import house_of
from tests.redis_fleets import user_of_the_docs
from tests.servers import Server, redis_command

PASSWORD = "canary-of-the-redis"
RIGHT = "another"
FOREVER = 3600.0
HASH_KEY = Secret(b"0123456789abcdef0123456789ABCDEF")


@contextlib.asynccontextmanager
async def hearing(
    url: str, hash_key: Secret, said: list[str] | None = None, every: float = FOREVER
) -> AsyncIterator[Hearsay]:
    """One that looks when it is told, and `every` seconds."""
    made = Hearsay(every)
    made.open(url, hash_key, (said if said is not None else []).append)
    try:
        yield made
    finally:
        await made.aclose()


async def subscribed(*hearsays: Hearsay) -> None:
    await until(lambda: all(one.subscribed for one in hearsays), "a subscription")


async def news(hearsay: Hearsay) -> None:
    """Until the pause is over, which is by what was told: by the clock it never is."""
    async with asyncio.timeout(10):
        await hearsay.pause(asyncio.Event())


def publish(server: Server, channel: str, message: str) -> None:
    redis_command(server.port, f'PUBLISH {channel} "{message}"')


async def told(hearsay: Hearsay, tell: Callable[[], Any]) -> bool:
    """Whether what `tell` says ends the pause, before what is certain to end it does."""
    closing = asyncio.Event()
    pausing = asyncio.create_task(hearsay.pause(closing))
    tell()
    done, _ = await asyncio.wait([pausing], timeout=0.3)
    closing.set()
    await pausing
    return bool(done)


async def test_a_change_is_heard_by_everybody_who_listens(redis_url: str, tmp_path: Path) -> None:
    async with opened(Backend(tmp_path), redis_url=redis_url) as desk:
        key = desk.hash_key
        async with hearing(redis_url, key) as one, hearing(redis_url, key) as other:
            await subscribed(one, other)
            for alias in ("first", "second"):
                one.ours = other.ours = await revision(desk.store)
                await add(desk, alias)
                await asyncio.gather(news(one), news(other))
            assert (one.announced, other.announced) == (2, 2)


async def test_a_change_is_in_the_table_without_any_look_in_between(
    redis_url: str, backend: Backend
) -> None:
    async with (
        opened(backend, redis_url=redis_url) as desk,
        publishing(desk, FOREVER) as made,
    ):
        await subscribed(made._hearsay)
        for alias in ("first", "second", "third"):
            await add(desk, alias)
            await until_published(desk, made)
        assert made._hearsay.announced == 3


async def test_of_many_that_look_at_a_database_one_does(
    redis_url: str, tmp_path: Path, postgres_url: str
) -> None:
    async with (
        opened(Backend(tmp_path), redis_url=redis_url, database_url=postgres_url) as desk,
        publishing(desk) as one,
        publishing(desk) as two,
        publishing(desk) as three,
    ):
        await subscribed(*(each._hearsay for each in (one, two, three)))
        looks = await asyncio.to_thread(told_within, 2.0, redis_url, name(desk.hash_key))
        assert 3 <= looks <= 9, "by each of them it would be 15"
        # What nobody announced is found by one, and heard of by the others.
        await add(replace(desk, store=desk.store.announced(lambda _: None)), "quiet")
        await until_published(desk, one, two, three)
        assert sum(each._hearsay.announced for each in (one, two, three)) >= 1


async def until_published(desk: Desk, *publishers: Publisher) -> None:
    now = await revision(desk.store)
    await until(lambda: all(each._revision == now for each in publishers), "the change")


def told_within(seconds: float, url: str, channel: str) -> int:
    """How many messages are told on a channel in that time."""
    with redis_py.Redis.from_url(url) as client, client.pubsub() as pubsub:
        pubsub.subscribe(channel)
        end, count = time.monotonic() + seconds, -1  # less the subscription's own
        while (left := end - time.monotonic()) > 0:
            count += pubsub.get_message(timeout=left) is not None
        return count


@contextlib.asynccontextmanager
async def publishing(desk: Desk, every: float = LOOK_EVERY) -> AsyncIterator[Publisher]:
    """A publisher that follows the desk's store, in a data folder of its own."""
    house = house_of(desk.settings)
    house.snapshot = desk.settings.data_dir / f"{id(house)}.sealed"
    house.catalog = desk.settings.data_dir / f"{id(house)}.json.xz"
    house.metrics.mkdir()
    store = await open_store(desk.settings.store_url)
    made = Publisher(house, Source(desk.settings, desk.ring, desk.catalog), store)
    made._hearsay = Hearsay(every)
    await made.first()
    watching = asyncio.create_task(made.watch())
    try:
        yield made
    finally:
        house.closing.set()
        await watching
        await made.last()


async def test_only_what_was_committed_is_told_and_all_of_it(tmp_path: Path) -> None:
    async with opened(Backend(tmp_path)) as desk:
        told: list[int] = []
        desk.store = desk.store.announced(told.append)
        before = await revision(desk.store)
        await add(desk)
        assert (await refused(add(desk)))[0] == "alias_taken"
        async with desk.store.note():
            pass
        await add(desk, "other")
        assert told == [before + 1, before + 2]


async def test_other_stores_and_strangers_are_not_heard(shared_redis: Server) -> None:
    url = servers.redis_url(shared_redis)
    async with hearing(url, HASH_KEY) as mine, hearing(url, Secret(b"another")) as other:
        await subscribed(mine, other)
        mine.ours = 5
        channel, sender = name(HASH_KEY), "0" * 16
        assert HASH_KEY.expose().decode() not in channel
        for garbage in (
            "",
            "6",
            f"{sender} -6",
            f"{sender} 6 ",
            f"{sender} {10**18}",
            "\\xff" * 99,
        ):
            publish(shared_redis, channel, garbage)
        other.tell(6)  # on its own channel
        mine.tell(6)  # heard by itself
        assert not await told(mine, lambda: publish(shared_redis, channel, f"{sender} 4"))
        assert await told(mine, lambda: publish(shared_redis, channel, f"{sender} 6"))
        assert mine.announced == 1


async def test_lies_are_looked_for_no_oftener_than_time_would_have_it(redis_url: str) -> None:
    async with (
        hearing(redis_url, HASH_KEY, every=0.3) as mine,
        hearing(redis_url, HASH_KEY) as liar,
    ):
        await subscribed(mine, liar)
        mine.ours, looks, end = 5, 0, time.monotonic() + 1.2

        async def lie() -> None:
            while True:
                liar.tell(99)
                await asyncio.sleep(0.01)

        lying = asyncio.create_task(lie())
        while time.monotonic() < end:
            mine.begin()
            await mine.pause(asyncio.Event())
            looks += 1
        lying.cancel()
        assert mine.announced >= 2
        assert looks <= 6, "by each that was heard it would be 24"


async def test_who_just_looked_vouches_for_the_others(redis_url: str) -> None:
    async with (
        hearing(redis_url, HASH_KEY) as one,
        hearing(redis_url, HASH_KEY) as other,
        hearing(redis_url, HASH_KEY) as behind,
    ):
        await subscribed(one, other, behind)
        one.ours = other.ours = 5
        behind.ours = 4
        one.tell(5)
        await until(other.vouches, "the word of the one who looked")
        assert not one.vouches()  # nobody for himself
        await news(behind)
        assert not behind.vouches()
        one.tell(6)
        await news(other)
        assert not other.vouches()


async def test_its_word_holds_no_longer_than_till_the_next_look(redis_url: str) -> None:
    async with hearing(redis_url, HASH_KEY) as one, hearing(redis_url, HASH_KEY, every=0.2) as two:
        await subscribed(one, two)
        one.ours = two.ours = 5
        one.tell(5)
        await until(two.vouches, "the word of the one who looked")
        await two.pause(asyncio.Event())
        assert not two.vouches()


async def test_a_frozen_redis_keeps_no_change_waiting(redis: Server, tmp_path: Path) -> None:
    said: list[str] = []
    url = servers.redis_url(redis)
    async with opened(Backend(tmp_path), redis_url=url) as desk:
        assert desk.channel is not None
        desk.channel._say = said.append
        redis.freeze()
        for number in range(3):
            await add(desk, f"alias-{number}")
        assert said == []  # committed and answered, while the first announcement still waits
        await until(lambda: bool(said), "the complaint")
        await add(desk, "last")
        await desk.hush()
        assert len(said) == 1
        assert "(TimeoutError)" in said[0]
        redis.thaw()


async def test_a_redis_that_comes_back_is_heard_again(redis: Server) -> None:
    said: list[str] = []
    url = servers.redis_url(redis)
    async with hearing(url, HASH_KEY, said) as one, hearing(url, HASH_KEY) as other:
        await subscribed(one, other)
        redis.kill()
        await until(lambda: not (one.subscribed or other.subscribed), "an end of the subscription")
        redis.start()
        await subscribed(one, other)
        one.ours = 5
        other.tell(6)
        await news(one)
        redis.freeze()
        await until(lambda: not one.subscribed, "an end of the subscription that was silent")
        redis.thaw()
        await subscribed(one, other)
    assert len(said) == 1


async def test_a_replica_passes_on_what_is_told_there(redis: Server) -> None:
    url = servers.redis_url(redis)
    redis_command(redis.port, "REPLICAOF 127.0.0.1 1")
    assert b"READONLY" in redis_command(redis.port, "SET a b")
    async with hearing(url, HASH_KEY) as one, hearing(url, HASH_KEY) as other:
        await subscribed(one, other)
        one.ours = 5
        other.tell(6)
        await news(one)


async def test_a_wrong_password_is_complained_about_and_not_shown(redis: Server) -> None:
    redis_command(redis.port, f"CONFIG SET requirepass {RIGHT}")
    said: list[str] = []
    url = f"redis://:{PASSWORD}@127.0.0.1:{redis.port}/0"
    before = connections(redis)
    async with hearing(url, HASH_KEY, said, every=0.1) as one:
        one.ours = 5
        one.tell(5)
        for _ in range(10):
            one.begin()
            await one.pause(asyncio.Event())
        assert one.subscribed is False
        assert connections(redis) - before <= 8  # it is tried now and then
    assert len(said) == 1
    assert "AuthenticationError" in said[0]
    assert PASSWORD not in said[0] + repr(one)


def connections(server: Server) -> int:
    """How many were made since it was started."""
    said = b""
    with socket.create_connection(("127.0.0.1", server.port), 5) as sock:
        sock.sendall(f"AUTH {RIGHT}\r\nINFO stats\r\nQUIT\r\n".encode())
        while piece := sock.recv(65536):
            said += piece
    found = re.search(rb"total_connections_received:(\d+)", said)
    assert found, said
    return int(found[1])


async def test_a_user_who_may_do_no_more_than_that_is_enough(redis: Server) -> None:
    assert redis_command(redis.port, user_of_the_docs(PASSWORD)) == b"+OK\r\n"
    said: list[str] = []
    url = f"redis://gateway:{PASSWORD}@127.0.0.1:{redis.port}"
    async with hearing(url, HASH_KEY, said) as one, hearing(url, HASH_KEY, said) as other:
        await subscribed(one, other)
        one.ours = 5
        other.tell(6)
        await news(one)
    assert said == []


async def test_they_pass_over_tls_and_a_local_socket() -> None:
    with servers.running(_tls) as redis:
        secure = f"rediss://127.0.0.1:{redis.port}?ssl_ca_certs={redis.folder / 'cert.pem'}"
        said: list[str] = []
        async with (
            hearing(secure, HASH_KEY, said) as one,
            hearing(f"redis+unix://{redis.folder / 'socket'}", HASH_KEY, said) as other,
        ):
            await subscribed(one, other)
            one.ours = other.ours = 5
            other.tell(6)
            await news(one)
            one.tell(7)
            await news(other)
        assert said == []


def _tls(port: int, folder: Path) -> Server:
    file = certificate(folder, "127.0.0.1").rename(folder / "cert.pem")
    command = [servers.redis_program(), "--port", "0", "--save", "", "--tls-port", str(port)]
    command += ["--tls-cert-file", str(file), "--tls-key-file", str(file)]
    command += ["--tls-auth-clients", "no", "--unixsocket", str(folder / "socket")]
    return Server(port, folder, command, servers.answers_tcp)


async def test_a_url_that_is_none_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(StartRefused) as raised:
        async with opened(Backend(tmp_path), redis_url=f"redis://:{PASSWORD}@host:1/0?db=x"):
            pass
    assert PASSWORD not in str(raised.value)


async def test_without_a_redis_nothing_is_said_and_time_passes() -> None:
    alone = Hearsay(0.01)
    alone.tell(1)
    await alone.pause(asyncio.Event())
    assert (alone.subscribed, alone.vouches()) == (None, False)
    await alone.aclose()
