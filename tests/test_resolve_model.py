"""Resolution against the oracle, over random tables that were added to, renamed and deleted from.

Whatever the oracle says, no request of a scope gets a config from outside it and its parents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.resolve import Ask, explain, resolve, visible_models
from gateway.shapes import GLOBAL, Agent, Choice, ProviderConfig
from gateway.snapshot import Snapshot
from tests.oracle import Refused, Request, decides, parents, plain
from tests.routing import CATALOG, MODELS, Table, ask, key

SCOPES = ("group:a", "group:b", "gateway:acme/main", "gateway:acme/b", "instance:i")
PROVIDERS = ("openai", "anthropic", "google", "groq", "openrouter", "helicone", "azure", "custom:x")
ALIASES = ("default", "a", "b")
WORDS = sorted({model for listed in MODELS.values() for model in listed})
PREFIXES = (*PROVIDERS, *ALIASES, "google-ai-studio", "nobody", "A")
CHANGES = [
    "add",
    "add",
    "delete",
    "rename",
    "default",
    "default",
    "active",
    "active",
    "key",
    "choose",
    "choose",
]
T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One change somebody makes to the table."""

    kind: str
    which: int
    scope: str
    provider: str
    alias: str
    flag: bool
    model: str


def apply(table: Table, step: Step) -> None:
    rows = table.configs
    row = rows[step.which % len(rows)] if rows else None
    if step.kind == "add":
        if free(table, step.scope, step.provider, step.alias):
            table.add(step.provider, step.alias, step.scope)
    elif row is None:
        return
    elif step.kind == "delete":
        rows.remove(row)
    elif step.kind == "rename" and free(table, row.scope, row.provider, step.alias):
        table.change(row.id, alias=step.alias)
    elif step.kind == "default":
        for other in list(rows):
            if (other.scope, other.provider) == (row.scope, row.provider):
                table.change(other.id, default=step.flag and other is row)
    elif step.kind == "active":
        table.change(row.id, active=step.flag)
    elif step.kind == "key":
        table.change(row.id, sealed=b"sealed" if step.flag else None)
    elif step.kind == "choose":
        table.choices[row.scope] = Choice(row.id, step.model)


def free(table: Table, scope: str, provider: str, alias: str) -> bool:
    taken = {(c.scope, c.provider, c.alias) for c in table.configs}
    return (scope, provider, alias) not in taken


def steps(*kinds: str) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        st.sampled_from(kinds),
        st.integers(0, 20),
        st.sampled_from((GLOBAL, *SCOPES)),
        st.sampled_from(PROVIDERS),
        st.sampled_from(ALIASES),
        st.booleans(),
        st.sampled_from(WORDS),
    )


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A tree of scopes, configs in all of them, and then some changes."""
    table = Table(agents=dict(AGENTS))
    for scope in draw(st.permutations(SCOPES)):
        deep = [name for name in table.scopes if len(parents(table, name)) < 4]
        table.scope(scope, draw(st.sampled_from((GLOBAL, *deep))))
    adding = draw(st.lists(steps("add"), min_size=12, max_size=30))
    changing = draw(st.lists(steps(*CHANGES), max_size=16))
    for step in adding + changing:
        apply(table, step)
    return table


SCOPE = st.sampled_from((GLOBAL, *SCOPES))
NAMES = st.one_of(
    st.sampled_from((*WORDS, "brand-new")),
    st.builds("{}/{}".format, st.sampled_from(PREFIXES), st.sampled_from((*WORDS, "brand-new"))),
)
MAYBE_NAMES = st.one_of(NAMES, NAMES, NAMES, NAMES, st.none())
NOTHING: st.SearchStrategy[str | None] = st.none()
HEADERS = st.one_of(
    *[NOTHING] * 5,
    st.sampled_from((*ALIASES, "B", "nobody")),
    st.builds("{}/{}".format, st.sampled_from(PROVIDERS), st.sampled_from(ALIASES)),
)
OWNERS = st.sampled_from((*[None] * 12, "bound", "bound", "off", "gone"))
URLS = st.tuples(
    st.sampled_from(("gateway:acme/main", "gateway:acme/b")),
    # The native paths of the others are not those of chat completions.
    st.sampled_from(("compat", *sorted({*PROVIDERS} - {"anthropic", "google", "azure"}))),
)
WHOLE = st.sampled_from([word for word in (*WORDS, "brand-new") if "/" not in word])
REQUESTS = st.one_of(
    st.builds(Request, SCOPE, st.just("chat"), MAYBE_NAMES, HEADERS, st.none(), OWNERS),
    st.builds(Request, SCOPE, st.just("messages"), MAYBE_NAMES, HEADERS, st.none(), OWNERS),
    st.builds(Request, SCOPE, st.sampled_from(("generate", "deploy")), WHOLE, HEADERS),
    st.builds(Request, SCOPE, st.just("files"), st.none(), HEADERS, st.none(), OWNERS),
    st.builds(Request, SCOPE, st.just("chat"), MAYBE_NAMES, HEADERS, URLS),
)
AGENTS = {
    "bound": Agent(id="bound", scope=GLOBAL, name="b", provider="openai", model="gpt-4o-mini"),
    "off": Agent(id="off", scope=GLOBAL, name="o", enabled=False),
}


def asked(request: Request) -> Ask:
    """The same request as the corridor would put it."""
    client, model = key(request.scope, agent=request.agent), request.model
    lines = {
        "chat": "POST /v1/chat/completions",
        "messages": "POST /v1/messages",
        "generate": f"POST /v1beta/models/{model}:generateContent",
        "deploy": f"POST /openai/deployments/{model}/chat/completions",
        "files": "GET /v1/files",
    }
    line = lines[request.endpoint]
    if request.url is not None:
        scope, provider = request.url
        line = f"POST /v1/{scope.removeprefix('gateway:')}/{provider}/chat/completions"
    in_path = request.endpoint in ("generate", "deploy")
    return ask(line, None if in_path else model, request.header, client)


def outcome(answer: Callable[[], T]) -> T | str:
    try:
        return answer()
    except GatewayError as error:
        return error.code
    except Refused as refused:
        return str(refused)


def real(snapshot: Snapshot, question: Ask) -> tuple[ProviderConfig, str | None]:
    candidate = resolve(snapshot, CATALOG, question)
    return candidate.config, candidate.model


@settings(deadline=None)
@given(tables(), st.lists(REQUESTS, min_size=15, max_size=15))
def test_every_request_is_resolved_by_the_book(table: Table, requests: list[Request]) -> None:
    snapshot = table.snapshot()
    for request in requests:
        question = asked(request)
        expected = outcome(partial(plain, table, request))
        for _ in range(2):  # the second answer is a remembered one
            found = outcome(partial(real, snapshot, question))
            assert found == expected, (request, table.configs)
        check_scope(table, request, found)
        trace = explain(snapshot, CATALOG, question)
        told = trace.refused.code if trace.refused else trace.chosen and trace.chosen.config
        assert told == (found if isinstance(found, str) else found[0].id)


def check_scope(
    table: Table, request: Request, found: tuple[ProviderConfig, str | None] | str
) -> None:
    """The promise itself, apart from any rule: never a key from outside the scope's chain."""
    if isinstance(found, str):
        return
    start = request.url[0] if request.url else request.scope
    assert found[0].scope in parents(table, start)
    assert request.scope in parents(table, start)


LINES = {
    "anthropic": "POST /v1/messages",
    "google": "POST /v1beta/models/{}:generateContent",
    "azure": "POST /openai/v1/chat/completions",
}


@settings(deadline=None)
@given(tables(), SCOPE)
def test_every_listed_model_resolves_to_its_provider(table: Table, scope: str) -> None:
    snapshot, client = table.snapshot(), key(scope)
    listed = visible_models(snapshot, CATALOG, client, 0.0)
    assert listed == visible_models(table.snapshot(), CATALOG, client, 0.0)
    assert len({name for name, _ in listed}) == len(listed)
    for name, provider in listed:
        line = LINES.get(provider, "POST /v1/chat/completions")
        in_path = "{}" in line
        question = ask(line.format(name), None if in_path else name, None, client)
        candidate = resolve(snapshot, CATALOG, question)
        assert candidate.config.provider == provider
        assert name in (candidate.model, f"{provider}/{candidate.model}")
    assert {p for _, p in listed} == {p for p in PROVIDERS if lists_anything(table, scope, p)}


def lists_anything(table: Table, scope: str, provider: str) -> bool:
    scopes = parents(table, scope)
    deciding = [
        config
        for config in table.configs
        if config.provider == provider and decides(table, scopes, config)
    ]
    usable = any(config.active and config.sealed for config in deciding)
    choice = next((table.choices[s] for s in scopes if s in table.choices), None)
    chosen = [c.provider for c in table.configs if choice and c.id == choice.config_id]
    return usable and (provider in MODELS or provider in chosen)
