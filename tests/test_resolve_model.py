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
from gateway.shapes import GLOBAL, Agent, Candidate, Choice
from gateway.snapshot import Snapshot
from tests.oracle import Answer, Refused, Request, above, decides, enabled, parents, plain
from tests.routing import CATALOG, MODELS, Table, ask, key

SCOPES = ("group:a", "group:b", "gateway:acme/main", "gateway:acme/b", "instance:i")
PROVIDERS = ("openai", "anthropic", "google", "groq", "openrouter", "helicone", "azure", "custom:x")
ALIASES = ("default", "a", "b")
WORDS = sorted({model for listed in MODELS.values() for model in listed})
ROUTES = ("smart", "gpt-4o", "openai/gpt-4o", "claude-sonnet-4-5")
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
    "route",
    "route",
    *["disable"] * 5,
    "listed only",
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
    elif step.kind == "disable":
        listed = MODELS.get(row.provider, (step.model,))
        table.disabled.add((step.scope, row.provider, listed[step.which % len(listed)]))
    elif step.kind == "listed only":
        table.change(row.id, allow_unlisted=step.flag)
    elif step.kind == "route":
        add_route(table, step)


def add_route(table: Table, step: Step) -> None:
    """To three configs at most, of whatever scope: the desk's rules are not the resolver's."""
    name = ROUTES[step.which % len(ROUTES)]
    if any((route.scope, route.name) == (step.scope, name) for route in table.routes):
        return
    rows = table.configs
    picks = [rows[(step.which + 5 * turn) % len(rows)] for turn in range(step.which % 4)]
    targets = [(row.id, (MODELS.get(row.provider) or WORDS)[0]) for row in picks]
    if step.flag and targets:
        targets[0] = (targets[0][0], step.model)
    table.route(name, *targets, scope=step.scope)


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
        deep = [name for name in table.scopes if len(above(table, name)) < 4]
        inherits = draw(st.sampled_from((True, True, True, False)))
        table.scope(scope, draw(st.sampled_from((GLOBAL, *deep))), inherits=inherits)
    adding = draw(st.lists(steps("add"), min_size=12, max_size=30))
    changing = draw(st.lists(steps(*CHANGES), max_size=24))
    for step in adding + changing:
        apply(table, step)
    return table


SCOPE = st.sampled_from((GLOBAL, *SCOPES))
NAMES = st.one_of(
    st.sampled_from((*WORDS, "brand-new", "smart", "smart")),
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
WHOLE = st.sampled_from([word for word in (*WORDS, "brand-new", "smart") if "/" not in word])
LISTED = st.sampled_from(("claude-sonnet-4-5", "gpt-4o", "gemini-2.5-pro"))
REQUESTS = st.one_of(
    st.builds(Request, SCOPE, st.just("chat"), MAYBE_NAMES, HEADERS, st.none(), OWNERS),
    st.builds(Request, SCOPE, st.just("messages"), MAYBE_NAMES, HEADERS, st.none(), OWNERS),
    st.builds(Request, SCOPE, st.sampled_from(("chat", "messages")), LISTED),
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


def real(snapshot: Snapshot, question: Ask) -> list[Answer]:
    return [(one.config, one.model) for one in resolve(snapshot, CATALOG, question)]


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
        if not isinstance(found, str):
            check_promises(table, request, found)
        trace = explain(snapshot, CATALOG, question)
        told = trace.refused.code if trace.refused else trace.chosen and trace.chosen.config
        assert told == (found if isinstance(found, str) else found[0][0].id)
        if trace.route is not None and not isinstance(found, str):
            usable = [aim.config for aim in trace.route.targets if aim.usable]
            assert usable == [config.id for config, _ in found]


def check_promises(table: Table, request: Request, found: list[Answer]) -> None:
    """Apart from any rule: no key from outside the scope's chain, no model that is off in it."""
    start = request.url[0] if request.url else request.scope
    chain = parents(table, start)
    assert request.scope in above(table, start)
    for config, model in found:
        assert config.scope in chain
        assert config.active
        assert not any((scope, config.provider, model) in table.disabled for scope in chain)


LINES = {
    "anthropic": "POST /v1/messages",
    "google": "POST /v1beta/models/{}:generateContent",
    "azure": "POST /openai/v1/chat/completions",
}
PLAIN = "POST /v1/chat/completions"


@settings(deadline=None)
@given(tables(), SCOPE)
def test_every_listed_model_resolves_to_its_provider(table: Table, scope: str) -> None:
    snapshot = table.snapshot()
    listed = visible_models(snapshot, CATALOG, key(scope), 0.0)
    assert listed == visible_models(table.snapshot(), CATALOG, key(scope), 0.0)
    assert len({name for name, _ in listed}) == len(listed)
    for name, provider in listed:
        if provider != "wardgate":
            candidate = put(snapshot, scope, name, LINES.get(provider, PLAIN))[0]
            assert candidate.config.provider == provider
            assert name in (candidate.model, f"{provider}/{candidate.model}")
    assert {p for _, p in listed} - {"wardgate"} == {
        p for p in PROVIDERS if lists_anything(table, scope, p)
    }


@settings(deadline=None)
@given(tables(), SCOPE)
def test_the_routes_that_are_listed_are_those_that_lead_somewhere(table: Table, scope: str) -> None:
    snapshot = table.snapshot()
    listed = {n for n, p in visible_models(snapshot, CATALOG, key(scope), 0.0) if p == "wardgate"}
    for name in ROUTES:
        ways = [
            outcome(partial(put, snapshot, scope, name, line)) for line in (PLAIN, *LINES.values())
        ]
        leads = any(not isinstance(way, str) and way[0].rule == "route" for way in ways)
        assert leads == (name in listed)


def put(snapshot: Snapshot, scope: str, name: str, line: str) -> tuple[Candidate, ...]:
    """Ask for a model by this name on this endpoint."""
    model = None if "{}" in line else name
    return resolve(snapshot, CATALOG, ask(line.format(name), model, None, key(scope)))


def lists_anything(table: Table, scope: str, provider: str) -> bool:
    """Whether a usable config of it decides here, and some model of it is not off."""
    scopes = parents(table, scope)
    deciding = [
        config
        for config in table.configs
        if config.provider == provider and decides(table, scopes, config)
    ]
    usable = [config for config in deciding if config.active and config.sealed]
    usable.sort(key=lambda config: (not config.default, config.alias != "default"))
    choice = next((table.choices[s] for s in scopes if s in table.choices), None)
    chosen = [c.provider for c in table.configs if choice and c.id == choice.config_id]
    models = [
        *MODELS.get(provider, ()),
        *(choice.model for p in chosen if choice and p == provider),
    ]
    return any(enabled(table, scopes, usable[0], model) for model in models if usable)
