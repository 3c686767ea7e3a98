"""Config as code: planned, carried out, planned again with nothing to do; read-only elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from admin.configure import agents, choices, configs, models, routes
from admin.configure.configs import ConfigChange
from admin.configure.desk import Desk
from admin.manifest.carry_out import carry_out
from admin.manifest.document import ManifestRefused
from admin.manifest.export import export
from admin.manifest.plan import Step, plan
from admin.manifest.reading import read
from admin.manifest.state import read_state
from admin.permit import LOCAL
from gateway.shapes import GLOBAL
from tests.backends import Backend
from tests.desks import add, later, opened, refused, table
from tests.houses import wardgate
from tests.test_manifest_reading import HEAD, WHOLE


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with opened(backend) as opened_desk:
        yield opened_desk


async def planned(desk: Desk, text: str) -> list[Step]:
    return plan(read(text, "f.yaml"), await read_state(desk), desk.catalog)


async def applied(desk: Desk, text: str) -> list[str]:
    """`verb kind` of every step that was carried out."""
    document = read(text, "f.yaml")
    done: list[str] = []
    steps = plan(document, await read_state(desk), desk.catalog)
    await carry_out(desk, document, steps, lambda step: done.append(f"{step.verb} {step.kind}"))
    return done


async def flaws(desk: Desk, text: str) -> list[tuple[int, str]]:
    with pytest.raises(ManifestRefused) as caught:
        await applied(desk, text)
    return [(flaw.line, flaw.message) for flaw in caught.value.flaws]


async def test_a_file_is_carried_out_once_and_then_there_is_nothing_to_do(desk: Desk) -> None:
    assert await applied(desk, WHOLE) == [
        "create scope",
        "create provider",
        "create model",
        "create agent",
        "create route",
        "create choice",
    ]
    assert await planned(desk, WHOLE) == []
    served = await table(desk)
    [config] = served.configs[GLOBAL]
    assert (config.reference, config.sealed) == ("$env:UPSTREAM_OPENAI", None)
    assert served.chain("instance:tenant-1") == ("instance:tenant-1",)
    assert served.disabled[GLOBAL] == {("openai", "gpt-4.1-nano")}
    assert served.routes[GLOBAL]["fast"].targets[0].config_id == config.id
    assert served.choices[GLOBAL].model == "gpt-4.1"


async def test_planning_changes_nothing(desk: Desk) -> None:
    before = (await table(desk)).revision
    await planned(desk, WHOLE)
    assert (await table(desk)).revision == before


async def test_only_what_differs_is_changed(desk: Desk) -> None:
    await applied(desk, WHOLE)
    later(desk)
    text = WHOLE.replace("rate_limit: 10", "rate_limit: 20").replace("x-team: blue", "X-Team: red")
    [step] = await planned(desk, text)
    assert set(step.fields) == {"rate_limit", "settings"}
    assert step.fields["rate_limit"] == (10, 20)
    assert await applied(desk, text) == ["change provider"]
    assert await planned(desk, text) == []


async def test_what_the_file_no_longer_names_is_removed_in_order(desk: Desk) -> None:
    await applied(desk, WHOLE)
    await add(desk, "by-hand")
    done = await applied(desk, HEAD)
    assert done == [
        "remove choice",
        "remove route",
        "remove agent",
        "remove model",
        "remove provider",
    ]
    assert [view.alias for view in await configs.every(desk, None)] == ["by-hand"]
    served = await table(desk)
    assert [len(one) for one in (served.routes, served.agents, served.disabled)] == [0, 0, 0]
    assert len(served.choices) == 0


async def test_what_a_file_keeps_is_read_only_elsewhere(desk: Desk) -> None:
    await applied(desk, WHOLE)
    [config] = await configs.every(desk, None)
    assert config.managed_by == "fleet"
    state = await read_state(desk)
    agent, route = state.agents[GLOBAL, "helper"].agent, state.routes[GLOBAL, "fast"].route
    change: Any = ConfigChange(active=False)
    for work in (
        configs.change(desk, LOCAL, config.id, GLOBAL, change),
        configs.delete(desk, LOCAL, config.id, GLOBAL),
        agents.delete(desk, LOCAL, agent.id),
        routes.delete(desk, LOCAL, route.id),
        models.set_enabled(desk, LOCAL, GLOBAL, "openai", "gpt-4.1-nano", True),
    ):
        assert (await refused(work))[0] == "managed"
    assert await planned(desk, WHOLE) == []


async def test_what_nobody_keeps_is_taken_over_with_its_key(desk: Desk) -> None:
    made = await add(desk, "main")
    text = HEAD + "providers:\n  - {provider: openai, alias: MAIN}\n"
    [step] = await planned(desk, text)
    assert step.fields == {"kept by": (None, "fleet")}
    await applied(desk, text)
    after = await configs.get(desk, made.id)
    assert (after.managed_by, after.secret_preview) == ("fleet", made.secret_preview)


async def test_what_another_file_keeps_is_a_flaw(desk: Desk) -> None:
    await applied(desk, WHOLE)
    found = await flaws(desk, WHOLE.replace("name: fleet", "name: other"))
    assert [line for line, _ in found] == [7, 17, 19, 22]
    assert all("kept by the file fleet" in message for _, message in found)


@pytest.mark.parametrize(
    ("section", "line", "said"),
    [
        ("providers:\n  - provider: nobody\n", 4, "no provider 'nobody'"),
        ("models:\n  - {provider: openai, model: none, enabled: true}\n", 4, "lists no model"),
        (
            "providers:\n  - provider: openai\n  - {provider: openai, alias: DEFAULT}\n",
            5,
            "line 4 already",
        ),
        (
            "providers:\n  - {provider: openai, default: true}\n"
            "  - {provider: openai, alias: b, default: true}\n",
            5,
            "a default in global already",
        ),
        (
            "providers:\n  - {provider: openai, choice: a}\n  - {provider: groq, choice: b}\n",
            5,
            "a choice already",
        ),
        (
            "routes:\n  - name: r\n    targets: [{provider: groq, model: m}]\n",
            5,
            "no provider config groq/default",
        ),
        ("providers:\n  - {provider: openai, alias: models}\n", 4, "reserved word"),
        ("providers:\n  - {provider: azure}\n", 4, "needs the setting resourceName"),
        ("scopes:\n  - id: nowhere\n", 4, "no scope can be called that"),
        ("agents:\n  - {name: a, model: gpt}\n", 4, "model"),
    ],
)
async def test_what_cannot_be_is_refused_by_line(
    desk: Desk, section: str, line: int, said: str
) -> None:
    found = await flaws(desk, HEAD + section)
    assert any(at == line and said in message for at, message in found), found


async def test_a_refused_step_stops_and_the_next_run_goes_on(desk: Desk) -> None:
    bad = WHOLE.replace("alias: main", "alias: models")
    found = await flaws(desk, bad)
    assert found[0][0] == 7
    assert "instance:tenant-1" in (await table(desk)).scopes
    assert (await applied(desk, WHOLE))[0] == "create provider"


async def test_an_export_says_what_is_there_and_reads_back(desk: Desk) -> None:
    await applied(desk, WHOLE)
    sealed = await add(desk, "sealed", provider="groq")
    await choices.rechoose(desk, LOCAL, GLOBAL, choices.Rechoice(model="llama"), sealed.id)
    text = export(await read_state(desk), "fleet")
    assert "# key: stored sealed" in text
    assert "$env:UPSTREAM_OPENAI" in text
    assert sealed.secret_preview not in text
    steps = await planned(desk, text)
    assert {(step.verb, *step.fields) for step in steps} == {("change", "kept by")}
    await applied(desk, text)
    assert export(await read_state(desk), "fleet") == text


async def test_from_the_command_line(backend: Backend, tmp_path: Path) -> None:
    file, data, env = tmp_path / "fleet.yaml", tmp_path / "data", backend.env
    file.write_text(WHOLE)
    code, out, _ = await wardgate(data, "config", "plan", "--detailed-exitcode", str(file), **env)
    assert code == 3
    assert "+ provider openai/main in global" in out
    code, out, err = await wardgate(data, "config", "apply", "--yes", str(file), **env)
    assert (code, out.splitlines()[-1]) == (0, "Done: 6 to create, 0 to change, 0 to remove."), err
    code, out, _ = await wardgate(data, "config", "export", "-", **env)
    assert read(out, "-").name == "wardgate"
    file.write_text(WHOLE.replace("$env:UPSTREAM_OPENAI", "sk-canary-0123456789"))
    code, _, err = await wardgate(data, "config", "apply", "--yes", str(file), **env)
    assert code == 1
    assert f"{file}:9: a key stands here only as a reference" in err
    assert "canary" not in err
