"""Where a provider config's requests go: its base URL and the origin its key is sealed to.

Pure. What the desk computes when a key is sealed and compile.py when a table is made must be the
same thing, so both call this. The operator's overrides are no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.catalog import Provider
from gateway.shapes import Setting

_PORTS = {"https": 443, "http": 80}


def base_url(
    provider: Provider | None, own_url: str | None, settings: Mapping[str, Setting]
) -> str | None:
    """The config's own base URL, else its provider's, filled in; None: there is none."""
    if own_url is not None or provider is None:
        return own_url
    return provider.url(settings)


def origin(url: str | None) -> str:
    """scheme://host:port, the port always written; "" for no URL."""
    if url is None:
        return ""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{parts.port or _PORTS[parts.scheme]}"
