"""WARDGATE_DATABASE_URL against a PostgreSQL that speaks TLS and asks for a password."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.errors import StartRefused
from gateway.store.migrate import migrate
from tests import servers
from tests.certificate import certificate
from tests.copies import opened_store
from tests.servers import PASSWORD, Server

ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with servers.postgres_tls_server("localhost") as running:
        yield running


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signed nothing here."""
    return certificate(tmp_path_factory.mktemp("other"), "localhost")


def url(server: Server, query: str = "", host: str = "localhost", password: str = PASSWORD) -> str:
    who = f"wardgate:{password}" if password else "wardgate"
    place = f"postgresql+asyncpg://{who}@{host}:{server.port}/postgres"
    query = query.format(ours=server.folder / "cert.pem")
    return f"{place}?{query}" if query else place


@pytest.mark.parametrize(
    ("query", "host"),
    [
        ("", "localhost"),
        ("sslmode=prefer", "127.0.0.1"),
        ("sslmode=require", "127.0.0.1"),
        ("sslmode=verify-ca&sslrootcert={ours}", "127.0.0.1"),
        ("sslmode=verify-full&sslrootcert={ours}", "localhost"),
        ("sslmode=verify-full&sslrootcert={ours}&application_name=gw", "localhost"),
        ("ssl=require", "localhost"),
    ],
)
async def test_it_is_opened_over_tls(server: Server, query: str, host: str) -> None:
    place = url(server, query, host)
    await asyncio.to_thread(migrate, place)
    async with opened_store(place) as store, store.read() as conn:
        assert await conn.scalar(text(ENCRYPTED)) is True
        named = await conn.scalar(text("SHOW application_name"))
        assert named == ("gw" if "application_name" in query else "")


@pytest.mark.parametrize(
    ("query", "host", "words"),
    [
        ("sslmode=disable", "localhost", "no encryption"),
        ("sslmode=verify-full&sslrootcert={ours}", "127.0.0.1", "IP address mismatch"),
        ("sslmode=verify-full&sslrootcert={other}", "localhost", "certificate verify failed"),
        ("sslmode=verify-ca&sslrootcert=/none", "localhost", "sslrootcert names a file that is"),
        ("sslmod=require", "localhost", 'unrecognized configuration parameter "sslmod"'),
        ("sslpassword=hidden&sslmod=x", "localhost", "unrecognized configuration parameter"),
        ("sslmode=require&sslcert={ours}&sslkey=/none", "localhost", "sslkey names a file"),
    ],
)
def test_it_is_refused_in_words(
    server: Server, other: Path, query: str, host: str, words: str
) -> None:
    place = url(server, query.replace("{other}", str(other)), host)
    with pytest.raises(StartRefused, match=words) as caught:
        migrate(place)
    assert not {word for word in (PASSWORD, "hidden") if word in str(caught.value)}


def test_another_password_is_refused_and_not_shown(server: Server) -> None:
    for wrong in ("wrong-canary", ""):
        with pytest.raises(StartRefused, match="password") as caught:
            migrate(url(server, password=wrong))
        assert "canary" not in str(caught.value)


def test_the_password_may_stand_elsewhere(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "pgpass"
    file.touch(0o600)
    file.write_text(f"localhost:*:*:wardgate:{PASSWORD}\n")
    assert migrate(url(server, f"passfile={file}", password="")) in (True, False)
    os.environ["PGPASSWORD"] = PASSWORD
    assert migrate(url(server, password="")) is False


def test_a_database_that_is_not_there_is_refused_in_words(server: Server) -> None:
    with pytest.raises(StartRefused, match='database "none" does not exist'):
        migrate(url(server).replace("/postgres", "/none"))
