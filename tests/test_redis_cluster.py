"""Limits and announcements over a cluster of Redis: exact, and what a node takes along with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pytest

from admin import doctor
from gateway.errors import RateLimited
from gateway.limit import Limiter
from gateway.shapes import RateLimit
from tests import limiting, redis_fleets, servers
from tests.limiting import (
    HOUR,
    WIDE,
    WORKERS,
    Clock,
    admitted,
    client,
    config,
    limiters,
    until_shared,
)  # fmt: skip
from tests.ports import dead_port
from tests.redis_fleets import Cluster, channel, until_heard, user_of_the_docs
from tests.servers import Server

clock = limiting.hour_clock
LIMIT = RateLimit(50, HOUR)
AWAY_AFTER = 1.0  # seconds; for who is hit, and still enough for who is well
SLACK = 1.0  # what else the machine does is waited for, too


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with redis_fleets.cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """With nothing counted."""
    shared.forget()
    return shared


@pytest.fixture
def own() -> Iterator[Cluster]:
    """One whose nodes may be hit."""
    with redis_fleets.cluster() as cluster:
        yield cluster


def key_of(name: str, clock: Clock) -> str:
    """Under which the hour's count of this config is kept."""
    return f"wardgate:config/{name}/{HOUR}/{int(clock.now // HOUR)}"


def config_kept(cluster: Cluster, node: Server, clock: Clock, by: bool = True) -> str:
    """A config whose count this node keeps, or does not."""
    names = (f"config{n}" for n in range(10_000))
    return next(name for name in names if (cluster.keeper(key_of(name, clock)) is node) is by)


async def got(workers: Sequence[Limiter], times: int, name: str) -> int:
    """How many of `times` requests to this config are admitted, all asked for at once."""
    tries = (
        workers[n % len(workers)].admit(client(), None, config(LIMIT, name)) for n in range(times)
    )
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert all(answer is None or isinstance(answer, RateLimited) for answer in answers), answers
    return answers.count(None)


@pytest.mark.parametrize("technique", ["fixed", "sliding"])
async def test_limits_on_different_nodes_are_exact_together(
    cluster: Cluster, clock: Clock, technique: Literal["fixed", "sliding"]
) -> None:
    """All of a request's limits count it, or none: what is refused is given back on each node."""
    said: list[str] = []
    narrow, wide = RateLimit(50, HOUR, technique), RateLimit(500, HOUR, technique)
    async with limiters(cluster.url(), clock, said) as workers:
        assert await admitted(workers, 300, narrow, wide, wide) == 50
        assert await admitted(workers, 20, narrow, wide, wide) == 0
        left = await workers[0].left(client(wide), ("gateway:acme/main", wide), config(narrow))
        assert [(found.policy, found.remaining) for found in left] == [
            ("client", 450),
            ("gateway", 450),
            ("config", 0),
        ]
    assert said == []
    kept = [cluster.say(node, "DBSIZE") for node in cluster.nodes]
    assert sum(map(bool, kept)) > 2, "a node and its replica keep all of them"


async def test_hundred_limits_are_exact_each(cluster: Cluster, clock: Clock) -> None:
    said: list[str] = []
    async with limiters(cluster.url(), clock, said) as workers:
        found = await asyncio.gather(*(got(workers, 60, f"config{n}") for n in range(100)))
    assert found == [50] * 100
    assert said == []


async def test_user_of_the_docs_may_do_enough(cluster: Cluster, clock: Clock) -> None:
    said: list[str] = []
    heard: list[int] = []
    for node in cluster.nodes:
        cluster.say(node, *user_of_the_docs("s%cret").split())
    url = cluster.url().replace("://", "://gateway:s%25cret@")
    fixed, sliding = (RateLimit(200, HOUR, technique) for technique in ("fixed", "sliding"))
    async with limiters(url, clock, said) as workers:
        # The second refuses, and the first is given back.
        assert await admitted(workers, 100, fixed, RateLimit(20, HOUR, "sliding")) == 20
        assert await admitted(workers, 100, sliding, RateLimit(20, HOUR)) == 20
        left = await workers[0].left(client(sliding), None, config(fixed))
        assert [found.remaining for found in left] == [180, 180]
    async with channel(url, said) as one, channel(url, said) as other:
        one.listen(heard.append)
        await until_heard(other, heard, 1)
    assert said == []


async def test_url_need_name_but_one_node_that_is_up(cluster: Cluster, clock: Clock) -> None:
    said: list[str] = []
    gone, replica = dead_port(), cluster.nodes[-1]
    url = f"redis+cluster://127.0.0.1:{gone},127.0.0.1:{replica.port}"
    async with limiters(url, clock, said) as workers:
        assert await got(workers, 100, "config1") == 50
    assert said == []


async def test_without_any_node_each_worker_holds_its_share(clock: Clock) -> None:
    said: list[str] = []
    url = f"redis+cluster://127.0.0.1:{dead_port()}"
    async with limiters(url, clock, said) as workers:
        assert await got(workers, 100, "config1") == 50
        assert all(worker.redis_away for worker in workers)
    assert said == ["Redis' cluster is away (ConnectionError): limits are not shared"] * WORKERS


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_node_that_goes_takes_along_only_what_it_keeps(
    own: Cluster, clock: Clock, how: str
) -> None:
    said: list[str] = []
    node = own.nodes[0]
    lost, kept = (config_kept(own, node, clock, by) for by in (True, False))
    async with limiters(own.url(), clock, said, timeout=AWAY_AFTER) as workers:
        assert (await got(workers, 20, lost), await got(workers, 20, kept)) == (20, 20)
        await asyncio.to_thread(own.say, node, "WAIT", 1, 5000)
        if how == "killed":
            node.kill()
        else:
            node.freeze()
        began = time.monotonic()
        # By shares now, of which nobody has used anything; the other's count goes on.
        assert (await got(workers, 100, lost), await got(workers, 100, kept)) == (50, 30)
        assert time.monotonic() - began < 2 * AWAY_AFTER + SLACK
        assert {one.split(" (")[0] for one in said} == {f"Redis at 127.0.0.1:{node.port} is away"}
        own.nodes[0].process = None if how == "killed" else node.process
        await until_shared(workers, clock, lost)
        over = [one for one in said if one.endswith("limits are shared again")]
        assert over == [f"Redis at 127.0.0.1:{node.port} is replaced: limits are shared again"] * 4
        assert await got(workers, 100, kept) == 0
        new = own.keeper(key_of(lost, clock), own.nodes[1])
        assert new is not node
        found = int(own.say(new, "GET", key_of(lost, clock)))
        assert found >= 20, "the replica went on from what it had"


async def test_slots_that_move_take_their_counts_along(cluster: Cluster, clock: Clock) -> None:
    said: list[str] = []
    source, target = cluster.nodes[0], cluster.nodes[1]
    name = config_kept(cluster, source, clock)
    key = key_of(name, clock)
    slot = cluster.say(source, "CLUSTER KEYSLOT", key)
    async with limiters(cluster.url(), clock, said) as workers:
        assert await got(workers, 20, name) == 20
        ids = cluster.id_of(source), cluster.id_of(target)
        cluster.say(target, f"CLUSTER SETSLOT {slot} IMPORTING {ids[0]}")
        cluster.say(source, f"CLUSTER SETSLOT {slot} MIGRATING {ids[1]}")
        assert await got(workers, 10, name) == 10, "still at the source"
        cluster.say(source, "MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        # The first may find the script unknown at the target, where it is loaded then.
        for worker in workers:
            await worker.admit(client(), None, config(WIDE, name))
        assert await got(workers, 5, name) == 5, "asked for at the target"
        for node in (target, source):
            cluster.say(node, f"CLUSTER SETSLOT {slot} NODE {ids[1]}")
        assert 0 < await got(workers, 100, name) <= 15, "the target keeps it"
        assert int(cluster.say(target, "GET", key)) >= 50
        assert not any(worker.redis_away for worker in workers)
    assert said == []
    cluster.forget()  # a slot that holds keys does not go back
    for node in (source, target):
        cluster.say(node, f"CLUSTER SETSLOT {slot} NODE {ids[0]}")


async def test_who_leaves_is_counted_or_not_but_never_twice(cluster: Cluster, clock: Clock) -> None:
    async with limiters(cluster.url(), clock, []) as workers:
        tasks = [asyncio.create_task(got(workers, 1, "config1")) for _ in range(40)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert 10 <= await got(workers, 100, "config1") <= 50


async def test_who_waits_at_the_end_is_told(own: Cluster, clock: Clock) -> None:
    said: list[str] = []
    async with limiters(own.url(), clock, said) as workers:
        assert await got(workers, 4, "config1") == 4
        for node in own.nodes:
            node.freeze()
        waiting = [asyncio.create_task(got(workers, 1, "config1")) for _ in range(8)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*waiting) == [1] * 8


async def test_frozen_cluster_costs_a_newcomer_the_timeout_once(own: Cluster, clock: Clock) -> None:
    for node in own.nodes:
        node.freeze()
    said: list[str] = []
    took: list[float] = []
    async with limiters(own.url(), clock, said, timeout=AWAY_AFTER) as workers:
        for _ in range(3):
            began = time.monotonic()
            assert await got(workers, 8, "config1") == 8
            took.append(time.monotonic() - began)
    assert AWAY_AFTER <= took[0] < AWAY_AFTER + SLACK
    assert max(took[1:]) < AWAY_AFTER / 2
    assert said == ["Redis' cluster is away (TimeoutError): limits are not shared"] * WORKERS


async def test_changes_are_told_by_any_node(own: Cluster) -> None:
    said: list[str] = []
    heard: list[int] = []
    listens, tells = own.nodes[0], own.nodes[5]
    async with (
        channel(own.url(listens, own.nodes[1]), said) as one,
        channel(own.url(tells), said) as other,
    ):
        one.listen(heard.append)
        await until_heard(other, heard, 1)
        listens.kill()
        await until_heard(other, heard, 2)
        listens.start()


async def test_telling_asks_the_next_node_at_once(own: Cluster) -> None:
    said: list[str] = []
    heard: list[int] = []
    dead = dead_port()
    url = own.url(own.nodes[2]).replace("://", f"://127.0.0.1:{dead},")
    async with channel(own.url(), said) as one, channel(url, said) as other:
        one.listen(heard.append)
        await until_heard(other, heard, 1)
        assert all("not announced" not in each for each in said)


async def test_doctor_knows_a_cluster_from_one_server(cluster: Cluster, redis_url: str) -> None:
    node, gone = cluster.nodes[0], dead_port()

    async def found(url: str) -> tuple[str, str]:
        check: Any = await doctor.check_redis(url)
        return check.state, check.words

    assert await found(cluster.url()) == ("ok", "all that are named answer")
    assert await found(cluster.url(node)) == ("ok", "answers")
    state, words = await found(f"{cluster.url(node)},127.0.0.1:{gone}")
    assert (state, words) == ("warn", "1 of 2 named nodes: does not answer (ConnectionError)")
    for url, advice in (
        (servers.redis_url(node), "is a node of a cluster: write redis+cluster://"),
        (redis_url[:-2].replace("redis:", "redis+cluster:"), "is no cluster: write redis://"),
    ):
        state, words = await found(url)
        assert (state, words.partition(";")[0]) == ("fail", advice)
