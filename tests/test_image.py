"""deploy/Dockerfile, carried out: what is in the image, and that it serves where it may write
nothing but its data, under a user id that it does not know.
"""

from __future__ import annotations

import base64
import re
import secrets
import tempfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

import gateway
from tests import image
from tests.houses import RULE, children, gone, until
from tests.image import ARBITRARY, ROOT, Container, Stage

PROVIDER_KEY = "sk-image-canary-0123456789abcdefghij"
# A caller with nothing but Python. A key just made is known to the gateway within a second.
CALLER = """
import http.client, json, sys, time
body = json.dumps({"model": "demo/any", "stream": True, "messages": []})
headers = {"authorization": "Bearer " + sys.argv[1], "x-demo": "chunks=20; chunk_delay=0.05"}
for _ in range(50):
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
    connection.request("POST", "/v1/chat/completions", body, headers)
    answer = connection.getresponse()
    if answer.status == 200:
        break
    time.sleep(0.05)
for line in answer:
    print(line.decode(), end="", flush=True)
"""
# Says where it was asked for what, and takes everything.
COLLECTOR = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        print(self.path, self.headers["content-type"], flush=True)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
HTTPServer(("127.0.0.1", 4318), Collector).serve_forever()
"""
TRY_TO_WRITE = """
for place in / /base /data /etc /opt/wardgate /run /tmp /usr; do
    touch $place/written 2>/dev/null && echo $place
done
"""


@pytest.fixture(scope="module")
def built() -> Iterator[Stage]:
    # Not pytest's own folder, which nobody else may enter.
    folder = Path(tempfile.mkdtemp(prefix="wardgate-test-"))
    folder.chmod(0o755)
    try:
        yield image.build(folder)
    finally:
        image.as_root(f"rm -rf {folder}")


def packages(stage: Stage) -> Path:
    [found] = stage.inside("/opt/wardgate").glob("lib/python*/site-packages")
    return found


def one_spelling(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_image_holds_what_the_lock_lists_and_the_package_and_nothing_else(built: Stage) -> None:
    here = {
        (one_spelling(found.metadata["Name"]), found.version)
        for found in distributions(path=[str(packages(built))])
    }
    lock = (ROOT / "requirements-otel.lock").read_text()
    rows = re.findall(r"^([\w.-]+)==(\S+) (;?)", lock, re.MULTILINE)
    assert here - {row[:2] for row in rows} == {("wardgate", gateway.__version__)}
    assert {row[:2] for row in rows if not row[2]} <= here


def test_code_of_the_image_is_the_code_that_is_tested(built: Stage) -> None:
    for package in ("gateway", "admin"):
        here, there = contents(ROOT / package), contents(packages(built) / package)
        assert here == there
        [compiled] = [set((packages(built) / package).rglob("*.pyc"))]
        assert len(compiled) == len([name for name in here if name.endswith(".py")])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_folder_of_the_data_is_open_to_group_0(built: Stage) -> None:
    found = built.inside("/data").stat()
    user = built.said["USER"].partition(":")[0]
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (int(user), 0, 0o2770)


@pytest.fixture
def running(built: Stage, tmp_path: Path) -> Iterator[Container]:
    kek = "k1:" + base64.b64encode(secrets.token_bytes(32)).decode()
    given = {"WARDGATE_KEKS": kek, "WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8"}
    given["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4318"
    with Container(built, tmp_path, given) as container:
        yield container


async def test_image_serves_read_only_under_any_user_id_traces_and_ends_its_streams(
    running: Container,
) -> None:
    await until(lambda: running.log.count(RULE) == 2, "its welcome")
    check = running.stage.words("HEALTHCHECK")
    assert running.run(*check)[0] == 0
    assert running.run("env", "WARDGATE_PORT=1", *check)[0] == 1
    status = running.status()
    assert (status["Uid"].split()[0], status["Gid"].split()[0]) == (str(ARBITRARY), "0")
    assert (int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, "1")
    assert running.run("sh", "-c", TRY_TO_WRITE)[1].split() == ["/data", "/tmp"]
    pids = [running.pid, *children(running.pid)]

    with (
        running.beside("wardgate", "demo-upstream"),
        running.beside("python", "-c", COLLECTOR) as collector,
    ):
        key = furnish(running)
        with running.beside("python", "-c", CALLER, key) as caller:
            assert caller.stdout is not None
            assert caller.stdout.readline().startswith(b"data: ")
            running.send(running.stage.said["STOPSIGNAL"].removeprefix("SIG"))
            assert b"data: [DONE]" in caller.stdout.read()
        assert running.process.wait(30) == 0
        assert collector.stdout is not None
        assert collector.stdout.readline() == b"/v1/traces application/x-protobuf\n"
    assert all(map(gone, pids))
    assert PROVIDER_KEY not in running.log
    data = running.stage.inside("/data")
    assert "wardgate.db" in image.as_root(f"ls {data}").split()
    assert image.as_root(f"grep -rl {PROVIDER_KEY} {data} || true") == ""


def furnish(running: Container) -> str:
    """A provider and a key, as somebody would with `docker exec`."""
    where = ("--alias", "demo", "--base-url", "http://127.0.0.1:8089/v1", "--dialect", "openai")
    add = ("wardgate", "config", "add", "custom:demo", *where, "--key-env", "DEMO")
    code, said = running.run("env", f"DEMO={PROVIDER_KEY}", *add)
    assert code == 0, said
    code, said = running.run("wardgate", "keys", "create", "app")
    assert code == 0, said
    return said.split()[0]
