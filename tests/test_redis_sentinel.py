"""Limits and announcements where sentinels put a replica in its primary's place."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from admin import doctor
from gateway.errors import StartRefused
from gateway.limit import Limiter
from gateway.shapes import RateLimit
from tests import limiting, redis_fleets
from tests.limiting import HOUR, WIDE, WORKERS, Clock, admitted, limiters, until_shared
from tests.ports import dead_port
from tests.redis_fleets import GUARD, PASSWORD, Watched, channel, eventually, until_heard

clock = limiting.hour_clock
LIMIT = RateLimit(50, HOUR)
AWAY_AFTER = 1.0  # seconds; for who is hit, and still enough for who is well


@pytest.fixture(scope="module")
def shared() -> Iterator[Watched]:
    with redis_fleets.watched() as fleet:
        yield fleet


@pytest.fixture
def fleet(shared: Watched) -> Watched:
    """With nothing counted."""
    cast(Any, shared.client(shared.primary())).flushall()
    return shared


@pytest.fixture
def own() -> Iterator[Watched]:
    """One whose primary may be hit: until all is as before is ten times as long as a new start."""
    with redis_fleets.watched() as fleet:
        yield fleet


async def test_limit_is_exact_though_the_first_sentinel_is_gone(
    fleet: Watched, clock: Clock
) -> None:
    said: list[str] = []
    async with limiters(fleet.url(dead_port()), clock, said) as workers:
        assert await admitted(workers, 500, LIMIT) == 50
    assert said == []
    primary: Any = fleet.client(fleet.primary())
    assert primary.info("keyspace")["db1"]["keys"] == 1, "it is not the database of the URL"


async def test_a_sentinel_that_answers_nothing_costs_nobody_his_answer(
    fleet: Watched, clock: Clock
) -> None:
    said: list[str] = []
    fleet.sentinels[0].freeze()
    try:
        async with limiters(fleet.url(), clock, said) as workers:
            assert await admitted(workers, 500, LIMIT) == 50
    finally:
        fleet.sentinels[0].thaw()
    assert said == []


@pytest.mark.parametrize("how", ["killed", "frozen", "asked for"])
async def test_limit_goes_on_in_the_replica(own: Watched, clock: Clock, how: str) -> None:
    said: list[str] = []
    async with limiters(own.url(), clock, said, timeout=AWAY_AFTER) as workers:
        assert await admitted(workers, 20, LIMIT) == 20
        await asyncio.to_thread(own.counted)
        old = own.primary()
        {"killed": old.kill, "frozen": old.freeze, "asked for": own.ask_for_another}[how]()
        assert await admitted(workers, 4, None, WIDE) == 4, "meanwhile each holds its share"
        await eventually(lambda: asyncio.to_thread(lambda: own.primary() is not old), "another")
        await until_shared(workers, clock)
        if how != "asked for":  # then nobody need notice
            assert said[-WORKERS:] == ["Redis is back: limits are shared again"] * WORKERS
        assert await admitted(workers, 100, LIMIT) == 30, "the replica knows of 20"


async def test_changes_are_told_by_the_new_primary_too(own: Watched) -> None:
    said: list[str] = []
    heard: list[int] = []
    async with channel(own.url(), said) as one, channel(own.url(), said) as other:
        one.listen(heard.append)
        await until_heard(other, heard, 1)
        old = own.primary()
        old.kill()
        await until_heard(other, heard, 2)
        assert own.primary() is not old
    assert all(GUARD not in one and PASSWORD not in one for one in said)


async def test_tls_and_passwords_are_for_sentinels_and_primary_alike(clock: Clock) -> None:
    said: list[str] = []
    with redis_fleets.watched(tls=True) as fleet:
        async with limiters(fleet.url(), clock, said) as workers:
            assert await admitted(workers, 100, LIMIT) == 50
        unknown = fleet.url().split("&ssl_ca_certs")[0]
        async with limiters(unknown, clock, []) as workers:
            await admitted(workers, 4, LIMIT)
            assert workers[0].redis_away, "a certificate of nobody we trust"
    assert said == []


async def test_a_wrong_password_of_the_sentinels_is_away(fleet: Watched, clock: Clock) -> None:
    said: list[str] = []
    async with limiters(fleet.url().replace(GUARD, "wrong"), clock, said) as workers:
        assert await admitted(workers, 4, LIMIT) == 4
        assert all(worker.redis_away for worker in workers)
    assert set(said) == {"Redis is away (MasterNotFoundError): limits are not shared"}


async def test_sentinels_may_have_users_too(fleet: Watched, clock: Clock) -> None:
    page = (Path(__file__).parent.parent / "docs" / "redis.md").read_text()
    (rights,) = re.findall(r"At sentinels: `(.*)`", page)
    for one in fleet.sentinels:
        made: Any = fleet.client(one)
        assert made.execute_command("ACL SETUSER", "wardgate", "on", ">told", *rights.split())
    said: list[str] = []
    asked = "sentinel_username=wardgate&sentinel_password=told"
    url = fleet.url().replace(f"sentinel_password={GUARD}", asked)
    async with limiters(url, clock, said) as workers:
        assert await admitted(workers, 100, LIMIT) == 50
    assert said == []


async def test_doctor_says_whether_the_primary_answers(fleet: Watched) -> None:
    good = await doctor.check_redis(fleet.url())
    assert (good.state, good.words) == ("ok", "answers")
    bad = await doctor.check_redis(fleet.url().replace("/limits/", "/nobody/"))
    assert bad.state == "fail"
    assert "MasterNotFoundError" in bad.words


def test_an_option_nobody_knows_is_refused_at_start() -> None:
    for url in ("redis://h?nonsense=1", "redis+sentinel://h/s?nonsense=1"):
        with pytest.raises(StartRefused, match="WARDGATE_REDIS_URL"):
            Limiter(Clock(0.0), redis_url=url)
