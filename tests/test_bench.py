"""The bench measures what it says, notices a peer that does not do the job, and guards the cost.

Sizes are tiny, but for the guard: it takes one figure as `make bench` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import pytest

from tests.bench import apart, instructions, page, peers, plot, provider, stages, table, wire
from tests.bench.__main__ import arguments, judge, measure
from tests.bench.load import BenchFailed, Line, Paced, Tally, crowd, hang_up
from tests.bench.side import LONGEST, Side, until
from tests.bench.sizes import GUARD, Sizes
from tests.docs_tables import ROOT

TINY = Sizes(
    starts=1,
    calm=0,
    slices=1,
    slice=0.2,
    streams=10,
    chunks=4,
    pause=0.05,
    windows=1,
    window=0.4,
    timed=5,
    rounds=1,
    round=0.1,
    idle=20,
    many=40,
)
FACTS = page.Facts("2030-01-02", "a <machine>", "Wardgate 9, nginx 1.0", 0.3)
OURS = dict.fromkeys(table.ROWS, 50.0) | {"request-32": 120.0}
THEIRS = dict.fromkeys(table.ROWS, 25.0) | {"request-32": 20.0, "ready": 0.01}


@pytest.fixture
async def side(tmp_path: Path) -> AsyncIterator[Side]:
    """nginx before a provider, not started yet."""
    plan = provider.Plan()
    server, port = await provider.listen(plan)
    made = Side(peers.nginx(tmp_path, port, peers.Job()), plan, port)
    async with server:
        try:
            yield made
        finally:
            made.peer.stop()
            await until(lambda: not plan.connections, LONGEST)


async def test_every_figure_is_taken_of_both_peers(tmp_path: Path) -> None:
    run = stages.Run(list(peers.PEERS), list(table.ROWS), TINY, lambda doing: None, tmp_path)
    await run.take()
    assert set(run.figures) == {"wardgate", "nginx"}
    for taken in run.figures.values():
        assert set(taken) == set(table.ROWS)
        assert taken["request-32"] > 1
        assert taken["ready"] > 0
        assert taken["rest"] > 0.1
        assert 50 <= taken["workers-2-share"] <= 100
        assert 50 <= taken["workers-2-256-share"] <= 100
    assert set(run.idle["nginx"]) == {*stages.LOOPS, "tls"}


def test_a_request_keeps_its_bound_when_measured_beside_nginx() -> None:
    run = measure(list(peers.PEERS), ["request-32"], GUARD, lambda doing: None)
    bound = {"request-32": table.MOST_RATIO["request-32"]}
    assert table.broken(run.figures["wardgate"], run.figures["nginx"], {}, bound) == []


@pytest.mark.parametrize(
    ("swapped", "complaint"),
    [
        ("Bearer {client_key}", "sent the caller's key to the provider"),
        ("Bearer sk-somebody-elses", "did not send the provider's key"),
    ],
)
async def test_a_peer_that_sends_the_wrong_key_has_no_figures(
    swapped: str, complaint: str, side: Side
) -> None:
    config = side.peer.folder / f"{side.peer.port}.conf"
    right = f'Authorization "Bearer {wire.UPSTREAM_KEY}'
    wrong = f'Authorization "{swapped.format(client_key=side.peer.client_key)}'
    assert right in config.read_text()
    config.write_text(config.read_text().replace(right, wrong))
    with pytest.raises(BenchFailed, match=complaint):
        await side.start()


class Slow(asyncio.Protocol):
    """A provider that answers the first request late and the others at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.late = 0.1
        self.lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self.late, self.transport.write, wire.JSON_ANSWER)
        self.late = 0.0


async def test_a_request_that_finds_no_free_connection_waits_and_the_wait_counts() -> None:
    slow = Slow()
    server = await asyncio.get_running_loop().create_server(lambda: slow, "127.0.0.1", 0)
    tally = Tally()
    line = Line(tally)
    port = server.sockets[0].getsockname()[1]
    async with server:
        [caller] = await crowd(partial(Paced, line, wire.request("sk-nobody")), port, 1)
        try:
            took = await line.run(100, 0.05)
        finally:
            hang_up(tally, [caller])
            await slow.lost.wait()
    # Due every 10 ms, and none could be asked before the first was answered.
    assert len(took) == 5
    assert took[0] >= 0.09
    assert took[1] >= 0.05


def test_broken_bounds_are_named_when_figures_exceed_them() -> None:
    ours, theirs = {"request-32": 200.0, "ready": 0.5}, {"request-32": 20.0}
    assert table.broken(ours, theirs, {"ready": 1.5}, {"request-32": 10}) == []
    words = table.broken(ours, theirs, {"ready": 0.4}, {"request-32": 9.9, "chunk": 1})
    assert [line.split(":")[0] for line in words] == [
        "start to first answer",
        "one request, 32 connections",
        "one event of a stream",
    ]


@pytest.mark.parametrize(("times", "code"), [(0.9, 0), (1.1, 1)])
def test_make_bench_fails_beyond_the_bound_the_guard_has(
    times: float, code: int, tmp_path: Path
) -> None:
    assert "\nBOUNDS := --bounds\n" in (ROOT / "Makefile").read_text()
    asked = arguments(["--bounds", "--figures", "request-32"])
    run = stages.Run(["wardgate", "nginx"], asked.figures, GUARD, lambda doing: None, tmp_path)
    ours = times * table.MOST_RATIO["request-32"] * 20
    run.figures = {"wardgate": {"request-32": ours}, "nginx": {"request-32": 20.0}}
    assert judge(asked, run) == code


def test_a_peer_that_waited_for_its_callers_is_named() -> None:
    idle = {"nginx": {"request-1": 0.9, "request-32": 0.01, "tls": 0.4}}
    [waited] = table.remarks(idle)
    assert waited.startswith("nginx waited")
    assert waited.endswith("(one request, provider over TLS: 40%).")


def test_page_gets_the_run_between_its_marks_and_keeps_the_rest(tmp_path: Path) -> None:
    there = tmp_path / "page.md"
    there.write_text("# Page\n<!-- figures -->\nold\n<!-- /figures -->\nend\n")
    page.write(there, page.section({"wardgate": OURS, "nginx": THEIRS}, {}, FACTS))
    text = there.read_text()
    assert text.startswith("# Page\n<!-- figures -->\n| what it costs | wardgate | nginx | unit |")
    assert text.endswith("\n<!-- /figures -->\nend\n")
    assert "old" not in text
    assert "| one request, 32 connections | 120 | 20 | µs CPU | 6.0 × |" in text
    assert "| the busier one's part, 32 connections | 50 | 25 | % |  |" in text
    assert "2030-01-02, `make bench`: Wardgate 9, nginx 1.0. a <machine>" in text


def test_page_without_marks_is_refused(tmp_path: Path) -> None:
    there = tmp_path / "page.md"
    there.write_text("# Page\n")
    with pytest.raises(BenchFailed, match="has no <!-- figures -->"):
        page.write(there, "text")


def test_page_of_the_project_shows_every_figure_there_is() -> None:
    shown = page.MARKS.search((ROOT / "docs/performance.md").read_text())
    assert shown
    rows = [line.split(" | ")[0].removeprefix("| ") for line in shown[0].splitlines()]
    assert [row for row in rows if row in {words for words, _ in table.ROWS.values()}] == [
        words for words, _ in table.ROWS.values()
    ]


def test_picture_has_every_value_and_ratio_as_text() -> None:
    drawn = ElementTree.fromstring(plot.draw(OURS, THEIRS, FACTS))
    texts = [found.text for found in drawn.iter("{http://www.w3.org/2000/svg}text")]
    shown = {name for names in plot.GROUPS.values() for name in names}
    said_only = {name for each in stages.TWO for name in stages.three(each)[1:]}
    assert shown == set(table.ROWS) - said_only
    for name in shown:
        words, unit = table.ROWS[name]
        assert words in texts
        assert f"{table.number(OURS[name])} {unit}" in texts
        assert f"{table.number(THEIRS[name])} {unit}" in texts
    assert {"6.0 ×", "2.0 ×", "5000.0 ×"} <= set(texts)


def test_bars_are_as_long_as_their_ratios_and_cut_when_far_longer() -> None:
    drawn = ElementTree.fromstring(plot.draw(OURS, THEIRS, FACTS))
    bars = [found.attrib for found in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    ours = [float(bar["width"]) for bar in bars if bar.get("class") == "ours"]
    theirs = {float(bar["width"]) for bar in bars if bar.get("class") == "theirs"}
    [one] = theirs - {14.0}
    # Without the two of the legend: the first figure is twice nginx's, the second six times.
    assert ours[1] / one == pytest.approx(2, rel=0.02)
    assert ours[2] / one == pytest.approx(6, rel=0.02)
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}path"))) == 1


def test_bounds_are_read_from_the_command_line() -> None:
    asked = arguments(["--max-ratio", "request-32=18", "--max", "ready=1.5", "--quick"])
    assert asked.quick
    assert (asked.max_ratio, asked.max) == ([("request-32", 18.0)], [("ready", 1.5)])


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        (["--max", "speed=1"], "--max"),
        (["--figures", "request-32,speed"], "--figures"),
        (["--svg", "file.svg", "--only", "nginx"], "a whole run"),
        (["--write", "page.md", "--figures", "request-32"], "a whole run"),
        (["--write", "page.md", "--quick"], "a whole run"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_usage_message(
    typed: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments(typed)
    assert complaint in capsys.readouterr().err


def test_two_workers_are_measured_against_one_with_all_and_with_half() -> None:
    [found] = apart.measure(1, [4])
    assert found.connections == 4
    assert found.of_one > 0.5 < found.of_half
    assert 50 <= found.busier < 80, "who holds fewest takes the next: both have two"


def test_steps_that_are_timed_are_those_of_the_page() -> None:
    command = [sys.executable, "-P", "-m", "tests.bench.steps", "1", "20"]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    timed = re.findall(r"^\| (\w+) \| [0-9.]+ \|", told, re.MULTILINE)
    page = (ROOT / "docs/performance.md").read_text().partition("<!-- where -->")[2]
    assert timed == re.findall(r"^\| (?:the )?(\w+) \| [0-9.]+ \|", page, re.MULTILINE)


async def test_instructions_are_counted_of_answers_that_are_right() -> None:
    with contextlib.closing(instructions.Lane()) as lane:
        answer = await lane.requests(3)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(instructions.WHOLE.rpartition(b"\r\n\r\n")[2])
        await lane.stream()
        assert await lane.events(2) == instructions.CHUNK
