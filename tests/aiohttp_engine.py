"""aiohttp behind the gateway's seam: the engine that ours is measured by. Not shipped.

Redirects are not followed, proxies of the environment not used, cookies not kept, TLS always
verified; the address is checked when the socket is made. Used by engines.py.
"""

from __future__ import annotations

import socket
import ssl
from functools import lru_cache

import aiohttp
from multidict import CIMultiDict, istr
from yarl import URL

from gateway.addresses import AddressPolicy
from gateway.errors import TlsFailed, UpstreamError, UpstreamTimeout
from gateway.shapes import Headers
from gateway.upstream.seam import BROKE_OFF, Answer, Outbound, Pooling, Taker, Timeouts

# Headers aiohttp would invent; what the client did not send, the upstream does not see.
_INVENTED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_NOT_INVENTED: CIMultiDict[None] = CIMultiDict([(istr(name), None) for name in _INVENTED])


class _AsSent(aiohttp.ClientRequest):
    """A request with the headers it was given; the option of the session costs 4 % of its time."""

    def update_auto_headers(self, skip_auto_headers: object) -> None:
        self._skip_auto_headers = _NOT_INVENTED


class AiohttpAnswer:
    """An aiohttp response in the seam's words."""

    __slots__ = ("_response", "fields", "status")

    def __init__(self, response: aiohttp.ClientResponse, idle: float) -> None:
        self._response = response
        self.status = response.status
        self.fields = [name + b": " + value for name, value in response.raw_headers]
        connection = response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = idle
            connection.protocol.start_timeout()

    async def read(self, taker: Taker | None = None) -> bytes:
        try:
            return await self._response.content.readany()
        except TimeoutError:
            raise UpstreamTimeout("the provider stopped sending", code="upstream_timeout") from None
        except (aiohttp.ClientError, OSError):
            raise UpstreamError(BROKE_OFF, code="upstream_incomplete") from None

    @property
    def ended(self) -> bool:
        return self._response.content.at_eof()

    def abort(self) -> None:
        self._response.close()


class AiohttpEngine:
    """One keep-alive pool for https, one for http; sessions are made when first needed."""

    def __init__(
        self,
        policy: AddressPolicy,
        timeouts: Timeouts,
        *,
        pooling: Pooling | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._timeouts = timeouts
        self._pooling = pooling or Pooling()
        self._tls = tls
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def send(self, outbound: Outbound) -> Answer:
        url = _url(outbound.origin, outbound.target)
        self._check_literal(url)
        try:
            response = await self._session(url.scheme == "https").request(
                outbound.method,
                url,
                headers=_text_headers(outbound.all_headers()),
                data=outbound.body,
                allow_redirects=False,
            )
        except aiohttp.ServerTimeoutError as error:
            raise _late(error) from None
        except TimeoutError:
            raise UpstreamTimeout("the provider did not answer in time") from None
        except _Denied as error:
            raise _unsent(UpstreamError(str(error), code="upstream_denied")) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _unreachable(error) from None
        return AiohttpAnswer(response, self._timeouts.idle)

    async def aclose(self) -> None:
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    def _session(self, encrypted: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(encrypted)
        if session is None:
            session = self._sessions[encrypted] = self._new_session(encrypted)
        return session

    def _new_session(self, encrypted: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=self._pooling.most,
            keepalive_timeout=self._pooling.idle,
            ssl=self._tls or True,
            socket_factory=_SocketFactory(self._policy, encrypted),
        )
        timeouts = aiohttp.ClientTimeout(
            total=None,
            connect=self._timeouts.connect,
            sock_connect=self._timeouts.connect,
            sock_read=self._timeouts.first_byte,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeouts,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            request_class=_AsSent,
            trust_env=False,
            max_line_size=16 * 1024,
            max_field_size=32 * 1024,
        )

    def _check_literal(self, url: URL) -> None:
        # A literal address needs no resolver: refused here, before a connection is tried at all.
        host, port = url.host or "", url.port or 0
        if url.host_subcomponent and _is_literal(host):
            _refuse_unless(self._policy, host, port, encrypted=url.scheme == "https")


class _Denied(OSError):
    """The address is not one we may connect to."""


class _SocketFactory:
    """Makes aiohttp's sockets, only towards permitted addresses: the check at connect time."""

    def __init__(self, policy: AddressPolicy, encrypted: bool) -> None:
        self._policy = policy
        self._encrypted = encrypted

    def __call__(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        host, port = str(address[0]), int(address[1])
        if not self._policy.permits(host, port, encrypted=self._encrypted):
            raise _Denied(f"{host} is not an address Wardgate may connect to")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def _refuse_unless(policy: AddressPolicy, host: str, port: int, *, encrypted: bool) -> None:
    if not policy.permits(host, port, encrypted=encrypted):
        raise _unsent(
            UpstreamError(
                f"{host} is not an address Wardgate may connect to", code="upstream_denied"
            )
        )


def _is_literal(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _unreachable(error: Exception) -> UpstreamError:
    if _denied_inside(error):
        return _unsent(
            UpstreamError(
                "the provider's address is not one Wardgate may connect to", code="upstream_denied"
            )
        )
    kind = TlsFailed if isinstance(error, ssl.SSLError) else UpstreamError
    made = kind(f"the provider could not be reached ({type(error).__name__})")
    # Of the connector: there was no connection yet, or no trusted one.
    return _unsent(made) if isinstance(error, aiohttp.ClientConnectorError) else made


def _unsent(error: UpstreamError) -> UpstreamError:
    """The same error, saying that nothing of the request has left."""
    error.sent = False
    return error


def _denied_inside(error: BaseException) -> bool:
    causes = (error, getattr(error, "os_error", None), error.__cause__)
    if any(isinstance(cause, _Denied) for cause in causes):
        return True
    # Several addresses tried, all refused: aiohttp folds the reasons into one OSError's text.
    return "Wardgate may connect to" in str(error)


def _late(error: aiohttp.ServerTimeoutError) -> UpstreamError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _unsent(UpstreamTimeout("connecting to the provider took too long"))
    return UpstreamTimeout("the provider did not answer in time")


def _url(origin: str, target: bytes) -> URL:
    # Most requests go to a few targets; a client's long query is not worth remembering.
    return _known_url(origin, target) if len(target) <= 256 else _made_url(origin, target)


@lru_cache(maxsize=1024)
def _known_url(origin: str, target: bytes) -> URL:
    return _made_url(origin, target)


def _made_url(origin: str, target: bytes) -> URL:
    url = URL(origin + target.decode("ascii"), encoded=True)
    if str(url.origin()) != str(URL(origin).origin()):
        raise UpstreamError("the request would leave the provider's origin", code="upstream_denied")
    return url


def _text_headers(headers: Headers) -> CIMultiDict[str]:
    return CIMultiDict([(_name(name), _text(value)) for name, value in headers])


@lru_cache(maxsize=1024)
def _name(name: bytes) -> istr:
    # An istr is folded once; aiohttp would fold a plain str again at every look-up.
    return istr(name.decode("latin-1"))


def _text(value: bytes) -> str:
    try:
        return value.decode()  # aiohttp writes UTF-8: what is UTF-8 arrives as it was
    except UnicodeDecodeError:
        return value.decode("latin-1")
