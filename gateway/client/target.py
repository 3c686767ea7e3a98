"""What a request line asks for: the path, the query, and whether it was a path at all.

Cuts bytes, and decodes none. Pure. Called by listener.py.
"""

from __future__ import annotations

import httptools


def target_of(url: bytes) -> tuple[bytes, bytes, bool]:
    """Raw path, raw query, and whether the target was no path but a whole URL, or nothing."""
    if not url.startswith(b"/"):
        try:
            return httptools.parse_url(url).path or b"/", b"", True
        except httptools.HttpParserInvalidURLError:
            return b"/", b"", True
    path, _, query = url.partition(b"#")[0].partition(b"?")
    return path, query, False
