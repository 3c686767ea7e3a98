"""TLS to an upstream: only who proves the name it was asked for gets a byte, a session is taken up
again, and an end that anybody on the way can make is no end."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.upstream.seam import Outbound
from gateway.upstream.tls import tls_context
from tests import engines
from tests.engines import PIECE, Sent, Stand, names, whole
from tests.test_engine_origin import HELLO, Origin, Wire, answering

stand = engines.stand
REFUSED = "TlsFailed upstream_failed unsent"
NAME = "api.provider.test"
Span = datetime.timedelta
DAY = Span(days=1)
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass
class Authority:
    """An authority of the test's own, with a folder for what it signs."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    made: x509.Certificate

    @classmethod
    def new(cls, folder: Path) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the tests' authority")])
        constraint = x509.BasicConstraints(ca=True, path_length=0)
        made = _begun(name, name, key, -DAY, DAY).add_extension(constraint, critical=True)
        return cls(folder, key, made.sign(key, hashes.SHA256()))

    def server(
        self, *wanted: str, since: Span = -DAY, until: Span = DAY, newest: str = "1.3"
    ) -> ssl.SSLContext:
        """A server's side, with a certificate for these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted[0])])
        others = x509.SubjectAlternativeName([_general(name) for name in wanted])
        begun = _begun(subject, self.made.subject, key, since, until)
        made = begun.add_extension(others, critical=False).sign(self.key, hashes.SHA256())
        file = self.folder / f"{wanted[0].replace('*', 'any').replace(':', '-')}.pem"
        file.write_bytes(_private(key) + made.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.maximum_version = VERSIONS[newest]
        return context

    def client(self) -> ssl.SSLContext:
        """The engine's own context, with this authority besides."""
        context = tls_context()
        pem = self.made.public_bytes(serialization.Encoding.PEM)
        context.load_verify_locations(cadata=pem.decode())
        return context


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    since: Span,
    until: Span,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
    )


def _general(name: str) -> x509.GeneralName:
    literal = name[0].isdigit() or ":" in name
    return x509.IPAddress(ip_address(name)) if literal else x509.DNSName(name)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(pem, pkcs8, serialization.NoEncryption())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> ssl.SSLContext:
    return authority.client()


@pytest.fixture(autouse=True)
async def known() -> AsyncIterator[None]:
    with names({NAME: ["127.0.0.1"], "other.test": ["127.0.0.1"]}):
        yield


def at(origin: Origin, host: str = NAME, target: bytes = b"/") -> Outbound:
    return Outbound("GET", f"https://{host}:{origin.port}", target, [], None)


async def asked(
    stand: Stand, tls: ssl.SSLContext | None, served: ssl.SSLContext, host: str = NAME
) -> tuple[str, list[Wire]]:
    """The outcome of one request to a server with that side of TLS, and what the server saw."""
    async with Origin(tls=served) as origin:
        engine = stand.engine(tls=tls)
        outcome = await stand.outcome(engine, at(origin, host))
        await engine.aclose()
        await origin.all_closed()
        return outcome, origin.wires


@pytest.mark.parametrize("version", VERSIONS)
async def test_proven_name_is_asked(
    stand: Stand, authority: Authority, trusting: ssl.SSLContext, version: str
) -> None:
    served = authority.server(NAME, newest=version)
    outcome, [wire] = await asked(stand, trusting, served)
    assert outcome == "200 b'hello'"
    assert wire.requests[0].value(b"host") == b"%s:%d" % (NAME.encode(), wire.origin.port)


PROVEN = {"127.0.0.1": ["127.0.0.1"], "*.provider.test": [NAME], "several": ["x.test", NAME]}


@pytest.mark.parametrize("case", PROVEN)
async def test_ways_to_prove_a_name(
    stand: Stand, authority: Authority, trusting: ssl.SSLContext, case: str
) -> None:
    proven = PROVEN[case] if case == "several" else [case]
    host = case if case[0].isdigit() else NAME
    outcome, _ = await asked(stand, trusting, authority.server(*proven), host)
    assert outcome == "200 b'hello'"


async def test_ipv6_literal_is_proven(
    stand: Stand, authority: Authority, trusting: ssl.SSLContext
) -> None:
    async with Origin(answering(HELLO), "::1", authority.server("::1")) as origin:
        engine = stand.engine(tls=trusting)
        assert await stand.outcome(engine, at(origin, "[::1]")) == "200 b'hello'"
        await engine.aclose()


@pytest.mark.parametrize("host", [NAME, "127.0.0.1"])
async def test_server_is_told_the_name_it_is_asked_for(
    stand: Stand, authority: Authority, trusting: ssl.SSLContext, host: str
) -> None:
    """A literal address is no server name (RFC 6066)."""
    told: list[str | None] = []
    served = authority.server(NAME, "127.0.0.1")
    served.sni_callback = lambda _, name, __: told.append(name)
    outcome, _ = await asked(stand, trusting, served, host)
    assert outcome == "200 b'hello'"
    assert told == [NAME if host == NAME else None]


NOT_PROVEN = {
    "another name": (["other.test"], NAME),
    "a name below": (["www." + NAME], NAME),
    "a wildcard too high": (["*.test"], NAME),
    "a name for an address": ([NAME], "127.0.0.1"),
    "another address": (["127.0.0.2"], "127.0.0.1"),
    "an address for a name": (["127.0.0.1"], NAME),
}


@pytest.mark.parametrize("case", NOT_PROVEN)
async def test_server_that_does_not_prove_its_name_gets_nothing(
    stand: Stand, authority: Authority, trusting: ssl.SSLContext, case: str
) -> None:
    proven, host = NOT_PROVEN[case]
    outcome, wires = await asked(stand, trusting, authority.server(*proven), host)
    assert outcome == stand.expect(REFUSED)
    assert not any(wire.received for wire in wires)


TIMES = {"expired": (-2 * DAY, -DAY), "not yet valid": (DAY, 2 * DAY)}


@pytest.mark.parametrize("case", TIMES)
async def test_certificate_out_of_its_time_is_refused(
    stand: Stand, authority: Authority, trusting: ssl.SSLContext, case: str
) -> None:
    since, until = TIMES[case]
    served = authority.server(NAME, since=since, until=until)
    outcome, wires = await asked(stand, trusting, served)
    assert outcome == stand.expect(REFUSED)
    assert not any(wire.received for wire in wires)


async def test_unknown_authority_is_refused(stand: Stand, authority: Authority) -> None:
    """With the engine's own context: the system's authorities, and no others."""
    outcome, wires = await asked(stand, None, authority.server(NAME))
    assert outcome == stand.expect(REFUSED)
    assert not any(wire.received for wire in wires)


async def test_plain_http_on_a_tls_port_is_refused(stand: Stand, trusting: ssl.SSLContext) -> None:
    async def plain(wire: Wire) -> None:
        wire.send(HELLO)
        await wire.until(lambda: False)

    stand.origin.script = plain
    engine = stand.engine(tls=trusting)
    assert await stand.outcome(engine, at(stand.origin)) == stand.expect(REFUSED)
    await stand.empty(engine)


@pytest.mark.parametrize("ending", ["fin", "rst"])
async def test_handshake_that_breaks_off_fails_before_anything_is_sent(
    stand: Stand, trusting: ssl.SSLContext, ending: str
) -> None:
    async def hangs_up(wire: Wire) -> None:
        await wire.exactly(1)
        wire.fin() if ending == "fin" else wire.rst()

    stand.origin.script = hangs_up
    engine = stand.engine(tls=trusting)
    outcome = await stand.outcome(engine, at(stand.origin))
    assert outcome.endswith("upstream_failed unsent")
    await stand.empty(engine)


@pytest.mark.parametrize("first", ["was kept", "was closed"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_session_is_taken_up_again(
    stand: Stand, authority: Authority, version: str, first: str
) -> None:
    """The second connection costs no certificate and no signature."""
    resumed: list[bool] = []
    closing = HELLO.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")

    async def script(wire: Wire) -> None:
        await wire.request()
        resumed.append(wire.info("ssl_object").session_reused)
        wire.send(HELLO if first == "was kept" else closing)
        await wire.until(lambda: False)

    async with Origin(script, tls=authority.server(NAME, newest=version)) as origin:
        engine = stand.engine(tls=authority.client(), idle=0.01)
        for _ in range(3):
            assert await stand.outcome(engine, at(origin)) == "200 b'hello'"
            await origin.all_closed()
        assert resumed == stand.expect([False, True, True])
        await engine.aclose()


async def test_session_is_not_taken_up_under_another_name(
    stand: Stand, authority: Authority
) -> None:
    """Or one host's proof would do for another."""
    async with Origin(tls=authority.server(NAME)) as origin:
        engine = stand.engine(tls=authority.client(), idle=0.01)
        assert await stand.outcome(engine, at(origin)) == "200 b'hello'"
        await origin.all_closed()
        assert await stand.outcome(engine, at(origin, "other.test")) == stand.expect(REFUSED)
        assert len(origin.requests) == 1
        await engine.aclose()


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
OPEN_ENDED = b"HTTP/1.1 200 OK\r\n\r\nhello"
CUT = "200 b'hello' then UpstreamError upstream_incomplete"
ENDINGS = {
    "open end, closed by TLS": (OPEN_ENDED, "fin", "200 b'hello'"),
    "open end, cut below TLS": (OPEN_ENDED, "cut", CUT),
    "chunked, closed by TLS": (CHUNKED, "fin", CUT),
    "chunked, cut below TLS": (CHUNKED, "cut", CUT),
    "counted, cut below TLS": (HELLO.replace(b"5", b"9"), "cut", CUT),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ENDINGS)
async def test_end_that_anybody_on_the_way_can_make_is_no_end(
    stand: Stand, authority: Authority, trusting: ssl.SSLContext, case: str, version: str
) -> None:
    sent, ending, outcome = ENDINGS[case]

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(sent)
        await wire.flushed()
        await asyncio.sleep(0.01)
        wire.fin() if ending == "fin" else wire.cut()

    served = authority.server(NAME, newest=version)
    async with Origin(script, tls=served) as origin:
        engine = stand.engine(tls=trusting)
        assert await stand.outcome(engine, at(origin)) == stand.expect(outcome)
        await engine.aclose()


async def test_connection_is_kept_and_closed_as_without_tls(
    stand: Stand, authority: Authority, trusting: ssl.SSLContext
) -> None:
    async with Origin(tls=authority.server(NAME)) as origin:
        engine = stand.engine(tls=trusting, idle=0.2)
        for _ in range(3):
            assert await stand.outcome(engine, at(origin)) == "200 b'hello'"
        assert len(origin.wires) == 1
        await origin.all_closed()
        assert await stand.outcome(engine, at(origin)) == "200 b'hello'"
        await engine.aclose()


async def test_large_bodies_go_both_ways(
    stand: Stand, authority: Authority, trusting: ssl.SSLContext
) -> None:
    count = 64

    async def echo(wire: Wire) -> None:
        request = await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(request.body))
        wire.send(request.body)
        await wire.until(lambda: False)

    async with Origin(echo, tls=authority.server(NAME)) as origin:
        engine = stand.engine(tls=trusting)
        outbound = at(origin)
        outbound.method, outbound.body = "POST", Sent(*[PIECE] * count).stream()
        answer = await engine.send(outbound)
        assert await whole(answer) == PIECE * count
        await engine.aclose()


async def test_cancelled_request_closes_its_connection(
    stand: Stand, authority: Authority, trusting: ssl.SSLContext
) -> None:
    async def silent(wire: Wire) -> None:
        await wire.request()
        await wire.until(lambda: False)

    async with Origin(silent, tls=authority.server(NAME)) as origin:
        engine = stand.engine(tls=trusting)
        task = asyncio.ensure_future(stand.outcome(engine, at(origin)))
        await origin.until(lambda: bool(origin.requests))
        task.cancel()
        await asyncio.wait([task])
        await origin.all_closed()
        await engine.aclose()
