"""What a fallback counts: limits, metrics and health, of each attempt and of the whole request."""

from __future__ import annotations

from gateway import metrics
from gateway.shapes import RateLimit
from tests.rig import failing, good, rig

LIMIT = RateLimit(1, 3600)


async def test_a_target_whose_own_limit_is_used_up_is_passed_over(limits_url: str) -> None:
    async with rig(good(), good(), limits={0: LIMIT}, redis_url=limits_url) as at:
        first, second = await at.ask(), await at.ask()
        assert [first.header(b"wardgate-config"), second.header(b"wardgate-config")] == [
            b"t0",
            b"t1",
        ]
        assert at.counts == [1, 1]


async def test_the_limit_of_the_last_target_is_told(limits_url: str) -> None:
    async with rig(good(), good(), limits={0: LIMIT, 1: LIMIT}, redis_url=limits_url) as at:
        answers = [await at.ask() for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2].header(b"retry-after") is not None
        assert b'"config"' in (answers[2].header(b"ratelimit") or b"")
        assert at.counts == [1, 1]


async def test_the_keys_own_limit_ends_the_request(limits_url: str) -> None:
    async with rig(good(), good(), client={"limit": LIMIT}, redis_url=limits_url) as at:
        assert [(await at.ask()).status for _ in range(2)] == [200, 429]
        assert at.counts == [1, 0]


async def test_a_request_counts_once_against_its_key_however_many_targets_it_tries(
    limits_url: str,
) -> None:
    two = RateLimit(2, 3600)
    async with rig(failing(), failing(), good(), client={"limit": two}, redis_url=limits_url) as at:
        assert [(await at.ask()).status for _ in range(3)] == [200, 200, 429]
        assert at.counts == [2, 2, 2]


async def test_every_target_that_was_tried_counts_against_its_own_limit(limits_url: str) -> None:
    async with rig(
        failing(), good(), limits={0: LIMIT, 1: RateLimit(2, 3600)}, redis_url=limits_url
    ) as at:
        assert [(await at.ask()).status for _ in range(3)] == [200, 200, 429]
        assert at.counts == [1, 2]


async def test_every_attempt_is_a_sample_of_its_configs_health() -> None:
    async with rig(failing(503), None, good()) as at:
        await at.ask()
        report = at.house.gateway.take_health()
        ids = [config.id for config in at.configs]
        assert {name: counts.errors for name, counts in report.counts.items()} == {
            ids[0]: {"http_503": 1},
            ids[1]: {"upstream_failed": 1},
            ids[2]: {},
        }


async def test_a_request_is_counted_once_by_the_target_that_answered() -> None:
    def served_by(provider: str) -> float:
        return sum(
            sample.value
            for family in metrics.requests.collect()
            for sample in family.samples
            if sample.name.endswith("_total") and sample.labels["provider"] == provider
        )

    before = served_by("custom:t0"), served_by("custom:t1")
    async with rig(failing(), good()) as at:
        await at.ask()
    assert (served_by("custom:t0"), served_by("custom:t1")) == (before[0], before[1] + 1)


async def test_a_target_that_was_not_asked_is_not_timed(limits_url: str) -> None:
    def timed() -> float:
        labels = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "custom:t1"}
        return sum(
            sample.value
            for family in metrics.operation_duration.collect()
            for sample in family.samples
            if sample.name.endswith("_count") and labels.items() <= sample.labels.items()
        )

    async with rig(failing(), good(), limits={1: LIMIT}, redis_url=limits_url) as at:
        assert (await at.ask()).status == 200
        before = timed()
        assert (await at.ask()).status == 429
        assert timed() == before
