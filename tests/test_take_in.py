"""Provider keys of the environment become configs: which, once, and what is said of the others."""

from __future__ import annotations

import pytest

from admin.configure import configs
from admin.permit import LOCAL
from admin.stored import every_config
from admin.take_in import PARTS, Taken, find, key_variables, owner, take_in
from gateway import catalog, credential
from gateway.shapes import GLOBAL
from tests.backends import Backend
from tests.desks import add, key_of, opened

CATALOG = catalog.load()
OPENAI = "sk-proj-canary-0123456789abcdefghij"
AZURE = "0123456789abcdef0123456789abcdef"


def test_find_reads_the_catalog_names() -> None:
    [found] = find(CATALOG, {"OPENAI_API_KEY": f" {OPENAI}\n", "PATH": "/bin"})
    assert (found.provider, found.variables, found.why_not) == ("openai", ("OPENAI_API_KEY",), "")
    assert found.secret.expose() == OPENAI.encode()


@pytest.mark.parametrize(
    "name", ["GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY", "GEMINI_API_KEY"]
)
def test_find_takes_any_of_several_names(name: str) -> None:
    [found] = find(CATALOG, {name: "AIza-canary-0123456789"})
    assert (found.provider, found.variables) == ("google", (name,))


def test_find_leaves_empty_variables_alone() -> None:
    assert find(CATALOG, {"OPENAI_API_KEY": "  "}) == []


@pytest.mark.parametrize(
    ("variable", "provider"),
    [
        ("MOONSHOT_API_KEY", "moonshotai"),
        ("ZHIPU_API_KEY", "zhipuai"),
        ("DASHSCOPE_API_KEY", "alibaba"),
        ("MINIMAX_API_KEY", "minimax"),
        ("PERPLEXITY_API_KEY", "perplexity"),
        ("XIAOMI_API_KEY", "xiaomi"),
        ("GITHUB_TOKEN", "github-models"),
        ("ALIBABA_CODING_PLAN_API_KEY", "alibaba-coding-plan"),
    ],
)
def test_name_shared_by_providers_means_one_of_them(variable: str, provider: str) -> None:
    assert owner(CATALOG, variable) == provider
    assert [found.provider for found in find(CATALOG, {variable: "key-0123456789"})] == [provider]


def test_find_fills_in_what_a_provider_needs_beside_its_key() -> None:
    [found] = find(CATALOG, {"AZURE_API_KEY": AZURE, "AZURE_RESOURCE_NAME": "mine"})
    assert found.settings == {"resourceName": "mine"}
    assert found.variables == ("AZURE_API_KEY", "AZURE_RESOURCE_NAME")


def test_find_says_which_variable_is_missing() -> None:
    [found] = find(CATALOG, {"AZURE_API_KEY": AZURE})
    assert found.why_not == "AZURE_RESOURCE_NAME is not set"


def test_find_says_why_a_provider_cannot_be_used() -> None:
    [found] = find(CATALOG, {"GITLAB_TOKEN": "glpat-0123456789"})
    assert found.provider == "gitlab"
    assert found.why_not == CATALOG.providers["gitlab"].unsupported


AWS = {"AWS_ACCESS_KEY_ID": "AKIA0123", "AWS_SECRET_ACCESS_KEY": "s/3", "AWS_REGION": "eu-west-1"}


def test_find_puts_the_parts_of_aws_credentials_together() -> None:
    [found] = find(CATALOG, AWS)
    assert (found.provider, found.why_not) == ("amazon-bedrock", "")
    assert found.secret.expose() == b"AKIA0123::s/3::eu-west-1"
    assert found.variables[0] == "AWS_SECRET_ACCESS_KEY"
    assert set(found.variables) == set(AWS)


def test_find_takes_bedrocks_own_key_with_its_region() -> None:
    [found] = find(CATALOG, {"AWS_BEARER_TOKEN_BEDROCK": "ABSK0", "AWS_REGION": "eu-west-1"})
    assert (found.provider, found.secret.expose()) == ("amazon-bedrock", b"ABSK0")
    assert found.settings == {"region": "eu-west-1"}


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_REGION"])
def test_find_takes_no_part_of_aws_credentials_alone(variable: str) -> None:
    [found] = find(CATALOG, {name: AWS[name] for name in AWS if name != variable})
    assert found.why_not == f"{variable} is not set"


def test_find_leaves_credentials_that_expire() -> None:
    [found] = find(CATALOG, {**AWS, "AWS_SESSION_TOKEN": "t"})
    assert found.why_not == "AWS_SESSION_TOKEN is set: these credentials expire"


async def test_a_key_of_ours_is_not_taken_for_the_providers(backend: Backend) -> None:
    key = credential.mint("wg").text
    async with opened(backend) as desk:
        [taken] = await take_in(desk, {"OPENAI_API_KEY": key})
        assert [view async for view in every_config(desk, GLOBAL)] == []
    assert taken.why_not == "OPENAI_API_KEY holds a Wardgate key, not the provider's"


def test_every_provider_with_parts_is_in_the_catalog_and_names_its_variables() -> None:
    for name, parts in PARTS.items():
        # A row of a variable is of the provider whose key it is, and of no other key of it.
        provider = CATALOG.providers[name if name in CATALOG.providers else owner(CATALOG, name)]
        others = set(key_variables(provider)) - {name} if name != provider.id else set()
        env = dict.fromkeys(set(provider.env) - others, "acme")
        found = [each for each in find(CATALOG, env) if each.provider == provider.id]
        assert [each.why_not for each in found] == [""], name
        assert set(found[0].settings) == set(parts.settings)


async def test_take_in_stores_aws_credentials_to_sign_with(backend: Backend) -> None:
    async with opened(backend) as desk:
        assert [taken.why_not for taken in await take_in(desk, AWS)] == [""]
        [view] = [view async for view in every_config(desk, GLOBAL)]
        assert (view.provider, view.auth_type) == ("amazon-bedrock", "aws_sigv4")
        assert view.settings == {"region": "eu-west-1"}


async def test_take_in_stores_default_configs_and_says_which(backend: Backend) -> None:
    env = {"OPENAI_API_KEY": OPENAI, "AZURE_API_KEY": AZURE, "AZURE_RESOURCE_NAME": "mine"}
    async with opened(backend) as desk:
        taken = await take_in(desk, env)
        assert taken == [
            Taken("azure", ("AZURE_API_KEY", "AZURE_RESOURCE_NAME")),
            Taken("openai", ("OPENAI_API_KEY",)),
        ]
        views = [view async for view in every_config(desk, GLOBAL)]
        assert [(v.provider, v.alias, v.default) for v in views] == [
            ("azure", "default", True),
            ("openai", "default", True),
        ]
        assert await key_of(desk, views[1].id) == OPENAI


async def test_take_in_keeps_no_value_in_its_memory(backend: Backend) -> None:
    async with opened(backend) as desk:
        await take_in(desk, {"OPENAI_API_KEY": OPENAI})
    memory = backend.folder / "taken-in.json"
    assert memory.read_text() == '["OPENAI_API_KEY"]\n'
    assert memory.stat().st_mode & 0o777 == 0o600


async def test_deleted_config_does_not_come_back_at_the_next_start(backend: Backend) -> None:
    env = {"OPENAI_API_KEY": OPENAI}
    async with opened(backend) as desk:
        await take_in(desk, env)
        [view] = [view async for view in every_config(desk)]
        await configs.delete(desk, LOCAL, view.id, GLOBAL)
        assert await take_in(desk, env) == []
        assert [view async for view in every_config(desk)] == []


async def test_key_exported_after_the_first_start_is_taken_in_at_the_next(backend: Backend) -> None:
    async with opened(backend) as desk:
        assert await take_in(desk, {}) == []
        assert await take_in(desk, {"OPENAI_API_KEY": OPENAI}) == [
            Taken("openai", ("OPENAI_API_KEY",))
        ]


async def test_take_in_leaves_configs_that_are_there_alone(backend: Backend) -> None:
    async with opened(backend) as desk:
        view = await add(desk, alias="mine")
        [taken] = await take_in(desk, {"OPENAI_API_KEY": "sk-proj-another-0123456789abcdef"})
        assert taken == Taken("openai", ("OPENAI_API_KEY",), earlier=True)
        assert [found.id async for found in every_config(desk)] == [view.id]


async def test_next_start_finds_what_the_first_took_in(backend: Backend) -> None:
    async with opened(backend) as desk:
        await take_in(desk, {"OPENAI_API_KEY": OPENAI})
        [taken] = await take_in(desk, {"OPENAI_API_KEY": OPENAI})
        assert taken.earlier


async def test_value_the_desk_refuses_is_said_and_does_not_stop_the_others(
    backend: Backend,
) -> None:
    env = {"ANTHROPIC_API_KEY": "sk-ant-...abcd", "OPENAI_API_KEY": OPENAI}
    async with opened(backend) as desk:
        first, second = await take_in(desk, env)
        assert (first.provider, bool(first.why_not)) == ("anthropic", True)
        assert second == Taken("openai", ("OPENAI_API_KEY",))
