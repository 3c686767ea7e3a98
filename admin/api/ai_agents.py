"""/api/v1/ai-agents: named callers that own client keys and may be bound to a model.

Whoever may manage the providers of a scope may manage its agents.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from admin.api.bodies import Strict, Text
from admin.api.operations import Call, Operation
from admin.api.pages import Named, Paged, absent, covered, many
from admin.api.problems import Page
from admin.api.tags import guard, tagged
from admin.api.times import timestamp
from admin.configure import agents
from admin.configure.agents import AgentChange, AgentView, NewAgent
from gateway.shapes import GLOBAL

_PATH = "/ai-agents"
_ONE = f"{_PATH}/{{id}}"
_LONGEST_MODEL = 400  # a provider's id, a slash and a model


class AgentBody(Strict):
    """The body of PATCH: what is left out is kept. `modelId` is `provider/model`, null for none."""

    model_config = ConfigDict(alias_generator=to_camel)

    name: Text = Field(default_factory=str)
    enabled: bool = Field(default_factory=bool)
    model_id: str | None = Field(default_factory=absent, max_length=_LONGEST_MODEL)


class NewAgentBody(Strict):
    """The body of POST. Without `scope` the header Wardgate-Scope names it, else `global`."""

    model_config = ConfigDict(alias_generator=to_camel)

    name: Text
    scope: Text | None = None
    enabled: bool = True
    model_id: str | None = Field(None, max_length=_LONGEST_MODEL)


class Agent(Named):
    """An agent. The keys of one that is not enabled are refused with `agent_disabled`."""

    id: str
    name: str
    scope: str
    enabled: bool
    model_id: str | None
    managed_by: str | None  # the file that keeps it (config as code)
    created_at: str
    updated_at: str


async def create(call: Call) -> Response:
    body = await call.body(NewAgentBody)
    scope = body.scope or call.named_scope() or GLOBAL
    call.agree(scope)
    call.insist(scope)
    new = NewAgent(name=body.name, scope=scope, enabled=body.enabled, model=body.model_id)
    return tagged(_shown(await agents.create(call.desk, call.actor, new)), 201)


async def page(call: Call) -> Response:
    asked = call.query(Page)
    scopes = covered(call, asked)
    views, total = await agents.page(call.desk, scopes, asked.offset, asked.limit)
    return many(Paged[Agent], [_shown(view) for view in views], asked, total)


async def get(call: Call) -> Response:
    return tagged(_shown(await _found(call)))


async def change(call: Call) -> Response:
    found, body = await _found(call), await call.body(AgentBody)
    named = body.model_dump(exclude_unset=True)
    if "model_id" in named:
        named["model"] = named.pop("model_id")
    asked, unchanged = AgentChange(**named), guard(call.request, _shown)
    view = await agents.change(call.desk, call.actor, found.id, asked, guard=unchanged)
    return tagged(_shown(view))


async def delete(call: Call) -> Response:
    found = await _found(call)
    await agents.delete(call.desk, call.actor, found.id, guard=guard(call.request, _shown))
    return Response(status_code=204)


async def _found(call: Call) -> AgentView:
    view = await agents.get(call.desk, call.part("id"))
    call.insist(view.scope)
    call.agree(view.scope)
    return view


def _shown(view: AgentView) -> Agent:
    return Agent(
        id=view.id,
        name=view.name,
        scope=view.scope,
        enabled=view.enabled,
        model_id=view.model,
        managed_by=view.managed_by,
        created_at=timestamp(view.created_at),
        updated_at=timestamp(view.updated_at),
    )


OPERATIONS = (
    Operation(
        "GET",
        _PATH,
        "agents.read",
        page,
        name="listAiAgents",
        summary="The agents of the scopes one may read, oldest first",
        query=Page,
        answers={200: Paged[Agent]},
    ),
    Operation(
        "POST",
        _PATH,
        "agents.manage",
        create,
        name="createAiAgent",
        summary="Make an agent",
        body=NewAgentBody,
        answers={201: Agent},
        refusals=(404,),
    ),
    Operation(
        "GET",
        _ONE,
        "agents.read",
        get,
        name="getAiAgent",
        summary="One agent",
        answers={200: Agent},
    ),
    Operation(
        "PATCH",
        _ONE,
        "agents.manage",
        change,
        name="changeAiAgent",
        summary="Rename an agent, enable or disable it, bind it to a model",
        body=AgentBody,
        answers={200: Agent},
        refusals=(409, 412),
    ),
    Operation(
        "DELETE",
        _ONE,
        "agents.manage",
        delete,
        name="deleteAiAgent",
        summary="Delete an agent that owns no client key",
        answers={204: None},
        refusals=(409, 412),
    ),
)
