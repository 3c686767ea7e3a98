"""Gateways that count by sentinels or in a cluster, while who keeps the count dies under load."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from tests import redis_fleets
from tests.fleet import Fleet, Load, failure, fleet
from tests.houses import until
from tests.redis_fleets import Cluster, Watched, eventually


@pytest.fixture(params=["sentinels", "a cluster"])
def redises(request: pytest.FixtureRequest) -> Iterator[Watched | Cluster]:
    if request.param == "sentinels":
        with redis_fleets.watched() as made:
            yield made
    else:
        with redis_fleets.cluster() as cluster:
            yield cluster


Redises = Watched | Cluster


def keeps(redises: Redises, old: int | None) -> bool:
    """Whether somebody else than the old one does, as those who are up see it."""
    try:
        return redises.count()[0] not in (old, None)
    except RedisError:
        return False


async def counts(made: Fleet, redises: Redises, port: int) -> bool:
    """Whether the gateway at this port counts a request where all do."""
    before = redises.count()[1]
    assert await failure(made, port) == ""
    return redises.count()[1] == before + 1


async def test_no_request_fails_and_the_replica_goes_on_counting(
    redises: Redises, tmp_path: Path
) -> None:
    servers = redises.pair if isinstance(redises, Watched) else redises.nodes
    async with fleet(tmp_path, limit=10**6, WARDGATE_REDIS_URL=redises.url()) as made:
        ports = [member.port for member in made.members]
        async with Load(made, ports[0]) as one, Load(made, ports[1]) as other:
            await until(lambda: redises.count()[1] > 50, "a count")
            old, _ = redises.count()
            next(server for server in servers if server.port == old).kill()
            await eventually(lambda: asyncio.to_thread(keeps, redises, old), "another primary")
            asked = one.asked, other.asked
            await until(lambda: min(one.asked - asked[0], other.asked - asked[1]) > 20, "requests")
        assert one.failures == other.failures == []
        for port in ports:
            await eventually(partial(counts, made, redises, port), "a limit that is shared again")
        new, before = redises.count()
        assert new != old
        assert before > 50, "it went on from what the replica had"
        assert [await failure(made, port) for port in ports * 10] == [""] * 20
        assert redises.count() == (new, before + 20)
