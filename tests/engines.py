"""Both engines behind the seam, each with an origin of its own.

The one place of the tests that knows which engines there are. The fixture `stand` is what every
`test_engine_*.py` works with; where aiohttp differs stands in `test_engine_differences.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from ssl import SSLContext
from typing import Any, Literal, TypeVar, cast

import pytest

from gateway.addresses import AddressPolicy
from gateway.errors import TlsFailed, UpstreamError, UpstreamTimeout
from gateway.shapes import Headers
from gateway.upstream.engine import HttpEngine
from gateway.upstream.seam import Answer, Engine, Outbound, Pooling, Timeouts
from tests.aiohttp_engine import AiohttpEngine
from tests.test_engine_differences import differing
from tests.test_engine_origin import Origin

T = TypeVar("T")
Name = Literal["ours", "aiohttp"]
NAMES: tuple[Name, ...] = ("ours", "aiohttp")
OPEN = AddressPolicy([ip_network("127.0.0.0/8"), ip_network("::1/128")])
EMPTY = "<HttpEngine: 0 busy, 0 idle, 0 connecting, 0 waiting>"
PIECE = b"x" * 65536
# aiohttp would rather have large bytes as a file.
LARGE = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")


class Sent:
    """A body that arrives piece by piece (None: never), and knows whether it was closed."""

    def __init__(self, *pieces: bytes | None) -> None:
        self.pieces = pieces
        self.closed = False

    async def stream(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                if piece is None:
                    await asyncio.Event().wait()
                else:
                    yield piece
                await asyncio.sleep(0)
        finally:
            self.closed = True


def words(error: UpstreamError) -> str:
    """A failure in words a test can compare: its class, its code, whether anything was sent."""
    known = [kind for kind in (TlsFailed, UpstreamTimeout) if isinstance(error, kind)]
    kind = [*known, UpstreamError][0].__name__
    return f"{kind} {error.code}{'' if error.sent else ' unsent'}"


async def whole(answer: Answer) -> bytes:
    """The rest of a body, within five seconds. Raises what reading it raises."""
    body = bytearray()
    try:
        async with asyncio.timeout(5):
            while piece := await answer.read():
                body += piece
    except BaseException:
        answer.abort()
        raise
    return bytes(body)


@dataclass
class Stand:
    """One engine's place: an origin, engines made with what a test says, all closed at the end."""

    name: Name
    origin: Origin
    differs: Sequence[object] = ()
    engines: list[Engine] = field(default_factory=list)
    asserted: bool = False

    @property
    def patience(self) -> float:
        """Seconds for what must not take long; less where it is known to take for ever."""
        return 0.2 if self.differs else 1.0

    def engine(
        self,
        *,
        most: int = 0,
        idle: float = 15.0,
        pause: float = 5.0,
        policy: AddressPolicy = OPEN,
        tls: SSLContext | None = None,
        **seconds: float,
    ) -> Engine:
        timeouts = Timeouts(**{"connect": 5.0, "first_byte": 5.0, "idle": pause, **seconds})
        kind: Callable[..., Engine] = AiohttpEngine if self.name == "aiohttp" else HttpEngine
        made = kind(policy, timeouts, pooling=Pooling(most, idle), tls=tls)
        self.engines.append(made)
        return made

    def outbound(
        self,
        target: bytes = b"/",
        method: str = "GET",
        headers: Headers | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> Outbound:
        return Outbound(method, self.origin.url, target, headers or [], body)

    async def outcome(self, engine: Engine, outbound: Outbound, within: float = 5.0) -> str:
        """`200 b'hello'`; an answer that breaks off; or the failure in words."""
        try:
            async with asyncio.timeout(within):
                return await self.rest(await engine.send(outbound))
        except UpstreamError as error:
            return words(error)
        except TimeoutError:
            return "hangs"

    async def rest(self, answer: Answer) -> str:
        """The outcome of an answer whose head is here."""
        body = bytearray()
        try:
            while piece := await answer.read():
                body += piece
        except UpstreamError as error:
            return f"{answer.status} {bytes(body)!r} then {words(error)}"
        finally:
            answer.abort()
        return f"{answer.status} {bytes(body)!r}"

    async def get(self, engine: Engine, target: bytes = b"/") -> str:
        return await self.outcome(engine, self.outbound(target))

    def expect(self, strict: T) -> T:
        """The rule's own outcome, or the one in which aiohttp is known to differ."""
        self.asserted = True
        return cast(T, self.differs[0]) if self.differs else strict

    async def empty(self, engine: Engine) -> None:
        """Within a second no connection is open, and ours says so itself.

        Who answers otherwise than the rule may keep its connection, too, until it is closed.
        """
        if self.differs:
            await engine.aclose()
        await self.origin.all_closed()
        if self.name == "ours":
            await soon(lambda: repr(engine) == EMPTY, lambda: repr(engine))


async def soon(
    true: Callable[[], bool], what: Callable[[], object] = str, timeout: float = 1.0
) -> None:
    """For what has no event to wait for: look again every millisecond."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while not true():
        assert loop.time() < deadline, what()
        await asyncio.sleep(0.001)


@contextlib.contextmanager
def names(table: Mapping[str, list[str] | None]) -> Iterator[list[str]]:
    """The loop's resolver knows these names (None: it never answers); yields those asked for."""
    loop, asked = asyncio.get_running_loop(), list[str]()
    real = loop.getaddrinfo

    async def resolve(host: Any, port: Any, **more: Any) -> Any:
        if host[0].isdigit() or ":" in host:
            return await real(host, port, **more)
        asked.append(host)
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if (found := table[host]) is None:
            await asyncio.Event().wait()
        return [row for at in found or [] for row in await real(at, port, **more)]

    loop.getaddrinfo = resolve  # type: ignore[method-assign] # the one seam every engine has
    try:
        yield asked
    finally:
        loop.getaddrinfo = real  # type: ignore[method-assign] # likewise


@pytest.fixture(params=NAMES)
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    """Both engines, one after the other, against an origin of the test's own."""
    case = request.node.name.replace("[aiohttp]", "").replace("[aiohttp-", "[")
    async with Origin() as origin:
        made = Stand(request.param, origin, differing(case) if request.param == "aiohttp" else ())
        yield made
        for engine in made.engines:
            await engine.aclose()
        await origin.all_closed()
    assert made.asserted or not made.differs
