"""Databases of the tests' PostgreSQL: empty ones, and copies of a template, in some 30 ms each.

One psql stays connected for the making and dropping: starting one takes as long as a copy. Used by
conftest.py and backends.py.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from gateway.vault import KeyRing
from tests.servers import Server, postgres_program, postgres_url

_DONE = "that is all"
_NUMBERS = count(1)
_THROW_OUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"


class Databases:
    """Made by name, dropped by name; what is left goes with the server."""

    def __init__(self, server: Server, psql: subprocess.Popen[str]) -> None:
        self.server = server
        self.templates: dict[KeyRing, str] = {}  # an empty store for each
        self._psql = psql
        # Since 15 the default writes each page to the log as well, which takes a third longer.
        [version] = self.run("SHOW server_version_num")
        self._how = " STRATEGY FILE_COPY" if int(version) >= 150000 else ""

    def make(self, template: str = "template1") -> str:
        """The URL of a new database with what `template` (a name) has in it."""
        name = f"test_{next(_NUMBERS)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}{self._how}")
        return postgres_url(self.server, name)

    def drop(self, url: str) -> None:
        """Whoever is still connected."""
        self.run(f"DROP DATABASE IF EXISTS {name_of(url)} WITH (FORCE)")

    def close(self, url: str) -> None:
        """Nobody is let in any more, and who is in there is thrown out."""
        self.run(f"ALTER DATABASE {name_of(url)} ALLOW_CONNECTIONS false")
        self.run(_THROW_OUT.format(name_of(url)))

    def open(self, url: str) -> None:
        self.run(f"ALTER DATABASE {name_of(url)} ALLOW_CONNECTIONS true")

    def files(self, url: str) -> bytes:
        """Every byte of the files that belong to this database alone."""
        self.run("CHECKPOINT")
        numbers = dict(line.split("|") for line in self.run("SELECT datname, oid FROM pg_database"))
        folder = self.server.folder / "data" / "base" / numbers[name_of(url)]
        return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))

    def run(self, statement: str) -> list[str]:
        """One statement; the lines psql prints. An error is among them, and fails."""
        assert self._psql.stdin is not None
        assert self._psql.stdout is not None
        self._psql.stdin.write(f"{statement};\n\\echo {_DONE}\n")
        self._psql.stdin.flush()
        lines = []
        while (line := self._psql.stdout.readline().rstrip("\n")) != _DONE:
            assert line or self._psql.poll() is None, "psql is gone"
            lines.append(line)
        assert not [line for line in lines if line.startswith("ERROR")], lines
        return lines


def name_of(url: str) -> str:
    return urlsplit(url).path[1:]


@contextlib.contextmanager
def databases(server: Server) -> Iterator[Databases]:
    options = ["-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-p", str(server.port)]
    command = [postgres_program("psql"), *options, "-U", "wardgate", "-d", "postgres"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=Path("/"), stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    ) as psql:  # fmt: skip
        try:
            yield Databases(server, psql)
        finally:
            psql.terminate()
