"""What WARDGATE_REDIS_URL says: one server, a primary that sentinels know, or a cluster.

Only text: redis-py, which costs a process 0.15 s, is not imported here. Of the URL's parts only the
kind and the hosts are ever shown. Called by settings and redis_client.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

_ONE = re.compile(r"(?:rediss?://[^/?#]|(?:redis\+)?unix:///).*", re.DOTALL)
_SERVERS = r"://(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^/?#@]+)"
_SENTINEL = re.compile(
    rf"(?P<scheme>rediss?)\+sentinel{_SERVERS}"
    r"/(?P<service>[^/?#]+)(?:/(?P<database>[0-9]*))?(?:\?(?P<query>[^#]*))?"
)
# A cluster has but one database.
_CLUSTER = re.compile(
    rf"(?P<scheme>rediss?)\+cluster{_SERVERS}/?(?P<service>)(?P<database>)(?:\?(?P<query>[^#]*))?"
)
_PORTS = {"sentinel": 26379, "cluster": 6379}
_MOST = 64  # servers in one URL
_FORMS = (
    "use redis://host:port/database, redis+sentinel://host:port,host:port/service"
    " or redis+cluster://host:port,host:port"
)

Kind = Literal["one", "sentinel", "cluster"]
Node = tuple[str, int]  # host and port of a server


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """`named`: the servers it names. `scheme`, `user` and `query` are those of redis-py's URLs.

    `service` and `database` are of what sentinels name, `guard` is the user they ask for.
    """

    kind: Kind
    whole: str = field(default="", repr=False)  # as redis-py takes it, of kind "one"
    named: tuple[Node, ...] = ()
    scheme: str = "redis"
    user: str = field(default="", repr=False)
    query: str = field(default="", repr=False)
    service: str = ""
    database: str = ""
    guard: str = field(default="", repr=False)

    def of(self, node: Node) -> str:
        """The URL redis-py takes for a node of the cluster."""
        return self._of(self.user, node)

    def of_sentinel(self, node: Node) -> str:
        return self._of(self.guard, node)

    @property
    def of_primary(self) -> str:
        """The one whose host and port sentinels know."""
        return f"{self.scheme}://{self.user}/{self.database}?{self.query}"

    def _of(self, user: str, node: Node) -> str:
        host = f"[{node[0]}]" if ":" in node[0] else node[0]
        return f"{self.scheme}://{user}{host}:{node[1]}/?{self.query}"


def parse(raw: str) -> RedisUrl:
    """Raises ValueError, which never repeats the URL: it may hold a password."""
    if _ONE.fullmatch(raw):
        _port(raw)
        parts = urlsplit(raw)
        if not (parts.hostname or parts.scheme.endswith("unix")):
            raise ValueError(_FORMS)
        return RedisUrl("one", raw.replace("redis+unix", "unix", 1))
    kind: Kind = "cluster" if "+cluster:" in raw.split("//")[0] else "sentinel"
    found = (_CLUSTER if kind == "cluster" else _SENTINEL).fullmatch(raw)
    if found is None:
        raise ValueError(_FORMS)
    hosts = found["hosts"].split(",")
    if len(hosts) > _MOST:
        raise ValueError(f"name at most {_MOST} servers of Redis")
    query, guard = _guard(found["query"] or "")
    return RedisUrl(
        kind,
        named=tuple(_node(host, _PORTS[kind]) for host in hosts),
        scheme=found["scheme"],
        user=f"{found['user']}@" if found["user"] else "",
        query=query,
        service=found["service"],
        database=found["database"] or "",
        guard=guard,
    )


def _guard(query: str) -> tuple[str, str]:
    """What sentinels want to hear of who asks is no option of redis-py's."""
    pairs = parse_qsl(query, keep_blank_values=True)
    given = {name: value for name, value in pairs if name.startswith("sentinel_")}
    if not set(given) <= {"sentinel_username", "sentinel_password"}:
        raise ValueError("after ? use sentinel_username, sentinel_password and redis-py's options")
    rest = urlencode([pair for pair in pairs if pair[0] not in given])
    user, password = (
        quote(given.get(f"sentinel_{name}", ""), safe="") for name in ("username", "password")
    )
    return rest, f"{user}:{password}@" if password else ""


def _node(text: str, port: int) -> Node:
    url = f"redis://{text}"
    given = _port(url)
    host = urlsplit(url).hostname
    if not host:
        raise ValueError(_FORMS)
    return host, port if given is None else given


def _port(url: str) -> int | None:
    try:
        port = urlsplit(url).port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(_FORMS)
    return port
