"""Which base URLs may be stored: checked and brought to one spelling, before anything is sealed.

Pure. The address really used is checked again when a connection is made (gateway/addresses.py).
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from admin.configure.refusals import Refusal
from gateway.addresses import AddressPolicy
from gateway.catalog import Catalog
from gateway.settings import Settings

_LONGEST = 500
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~@:+-]+)*", re.ASCII)
_CIDRS = "WARDGATE_ALLOWED_UPSTREAM_CIDRS"
_PORTS = {"https": 443, "http": 80}


def checked_base_url(text: str, settings: Settings) -> str:
    """The URL in canonical spelling, without a trailing slash. Raises Refusal bad_base_url."""
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > _LONGEST:
        raise _refusal(f"at most {_LONGEST} printable ASCII characters without spaces")
    parts, port = _split(text)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise _refusal("an absolute URL: https://host/path")
    if "@" in parts.netloc:
        raise _refusal("without a user name or password")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise _refusal("without a query or a fragment")
    host = _host(parts, port, settings)
    shown = "" if port == _PORTS[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{host}{shown}{_path(parts.path)}"


def override_flaw(name: str, catalog: Catalog) -> str | None:
    """Why an operator's base URL under this name would move nothing, or None."""
    known = catalog.canonical(name)
    if known is None:
        return "which is no provider: use the catalog's id, or custom:<slug>"
    return None if known == name else f"which is called {known} here"


def _split(text: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _refusal("an absolute URL: https://host/path") from None
    if port == 0 or parts.netloc.endswith(":"):
        raise _refusal("one with a port from 1 to 65535, or none")
    return parts, port or _PORTS.get(parts.scheme, 0)


def _host(parts: SplitResult, port: int, settings: Settings) -> str:
    host, secure = parts.hostname or "", parts.scheme == "https"
    literals = _literals(host)
    if literals:
        policy = AddressPolicy.of(settings.allowed_upstream_cidrs, settings.provider_base_urls)
        if not any(policy.permits(address, port, encrypted=secure) for address in literals):
            raise _refusal(f"one Wardgate may reach: {host} is not in {_CIDRS}")
        return f"[{literals[0]}]" if ":" in host else host
    if not _HOST.fullmatch(host) or _is_number(host):
        raise _refusal("a host name of letters, digits, dots and dashes")
    # Where a name leads is seen when a connection is made; without ranges, http leads nowhere.
    if not secure and not settings.allowed_upstream_cidrs:
        raise _refusal(f"https; plain http goes only to addresses in {_CIDRS}")
    return host


def _literals(host: str) -> tuple[str, ...]:
    if host == "localhost":
        return ("127.0.0.1", "::1")
    try:
        return (str(ipaddress.ip_address(host)),) if "%" not in host else ()
    except ValueError:
        return ()


def _is_number(host: str) -> bool:
    # Resolvers read 127.1, 2130706433 and 0x7f.1 as addresses; ip_address() does not.
    last = host.rpartition(".")[2]
    return last.isdigit() or last.startswith("0x")


def _path(path: str) -> str:
    bare = path.rstrip("/")
    if not _PATH.fullmatch(bare) or path.endswith("//"):
        raise _refusal("a plain path: no //, no escapes, no backslash")
    if any(segment in (".", "..") for segment in bare.split("/")):
        raise _refusal("a path without . and .. in it")
    return bare


def _refusal(wanted: str) -> Refusal:
    return Refusal("bad_base_url", f"the base URL must be {wanted}", "base_url")
