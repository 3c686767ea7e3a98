"""The `x-demo` request header: how a client scripts the demo upstream, through a gateway or not.

Orders are read strictly: an unknown or unreadable one is answered 400 with HELP. Called by
`upstream` for every request that no test scripts itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from admin.demo.answers import answer, refuse
from admin.demo.script import Cut, Framing, Received, Script

HELP = """\
The request header x-demo scripts the answer; orders are separated by semicolons:
  status=503        answer with this status and an error body of the caller's dialect
  delay=0.5         wait this many seconds before the status line
  hold=0.5          wait between the head and the first byte of the body
  chunks=20         answer with 20 pieces (a stream gets that many words)
  chunk_delay=0.1   wait between pieces
  cut_at=100        stop after 100 bytes of the body
  cut_wire_at=100   stop after 100 bytes, counted from the status line on
  cut=rst           how a cut ends: fin (default), rst, stall, garbage
  stall             send the head and half of the body, then nothing (with cut_at: from there)
  framing=close     length, chunked or close
  redirect=URL      answer 307 to that URL
  retry_after=2     add retry-after
  early             answer without reading the request's body (needs status or redirect)
  inject            a header value with CR LF and a forged header in the answer
  echo              answer with the request as JSON: method, target, headers, body length
Models that fail: missing-model (404), limited-model (429); a key sk-refuse… is refused (401).
Example: curl -H 'x-demo: chunks=50; chunk_delay=0.1; cut_at=900; cut=rst' …
"""

_MOST = 86_400.0
"""Longest wait of an order, in seconds: a typing error shall not hold a connection for ever."""


class BadOrder(ValueError):
    """An order nobody can obey; its text says which."""


def _seconds(raw: str) -> float:
    if not re.fullmatch(r"\d{1,5}(\.\d{1,6})?", raw) or float(raw) > _MOST:
        raise BadOrder(f"{raw!r} is no number of seconds")
    return float(raw)


def _count(raw: str) -> int:
    if not re.fullmatch(r"\d{1,9}", raw):
        raise BadOrder(f"{raw!r} is no count")
    return int(raw)


def _pieces(raw: str) -> int:
    if not 1 <= _count(raw) <= 100_000:
        raise BadOrder("chunks: 1 to 100000")
    return _count(raw)


def _status(raw: str) -> int:
    if not re.fullmatch(r"[2-5]\d\d", raw):
        raise BadOrder(f"{raw!r} is no status from 200 to 599")
    return int(raw)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(raw: str) -> str:
        if raw not in words:
            raise BadOrder(f"{raw!r} is none of {', '.join(words)}")
        return raw

    return read


def _url(raw: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{1,2000}", raw):
        raise BadOrder("redirect needs a URL")
    return raw


def _flag(raw: str) -> bool:
    if raw:
        raise BadOrder("takes no value")
    return True


_ORDERS: Mapping[str, Callable[[str], Any]] = {
    "status": _status,
    "delay": _seconds,
    "hold": _seconds,
    "chunks": _pieces,
    "chunk_delay": _seconds,
    "cut_at": _count,
    "cut_wire_at": _count,
    "cut": _one_of("fin", "rst", "stall", "garbage"),
    "stall": _flag,
    "framing": _one_of("length", "chunked", "close"),
    "redirect": _url,
    "retry_after": _count,
    "early": _flag,
    "inject": _flag,
    "echo": _flag,
}


def read_orders(text: str) -> dict[str, Any]:
    """`status=503; stall` as a dict; BadOrder when a word of it cannot be obeyed."""
    orders: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, _, raw = (piece.strip() for piece in part.partition("="))
        if name not in _ORDERS:
            raise BadOrder(f"unknown order {name!r}")
        if name in orders:
            raise BadOrder(f"{name} stands twice")
        try:
            orders[name] = _ORDERS[name](raw)
        except BadOrder as bad:
            raise BadOrder(f"{name}: {bad}") from None
    if "early" in orders and not orders.keys() & {"status", "redirect"}:
        raise BadOrder("early needs status or redirect")
    return orders


def at_head(received: Received) -> Script | None:
    """The Script of a request that orders an `early` answer; None leaves it to `obey`."""
    if not any(b"early" in value for value in received.values(b"x-demo")):
        return None
    script = obey(received)
    script.read_body = False
    return script


def obey(received: Received) -> Script:
    """The demo answer, changed as the request's `x-demo` headers order."""
    text = b"; ".join(received.values(b"x-demo")).decode("latin-1")
    try:
        orders = read_orders(text)
    except BadOrder as bad:
        return refuse(received, 400, f"x-demo: {bad}\n{HELP}")
    return _changed(_chosen(received, orders), orders)


def _chosen(received: Received, orders: dict[str, Any]) -> Script:
    if "echo" in orders:
        return _echo(received)
    if "redirect" in orders:
        place = (b"location", orders["redirect"].encode())
        return Script(status=orders.get("status", 307), headers=[place])
    if orders.get("status", 200) >= 400:
        return refuse(received, orders["status"], f"the client ordered status {orders['status']}")
    script = answer(received, orders.get("chunks"))
    return replace(script, status=orders.get("status", script.status))


def _echo(received: Received) -> Script:
    seen = {
        "method": received.method,
        "target": received.target.decode("latin-1"),
        "headers": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in received.headers],
        "body_length": len(received.data),
    }
    return Script(headers=[(b"content-type", b"application/json")], body=json.dumps(seen).encode())


def _changed(script: Script, orders: dict[str, Any]) -> Script:
    headers = list(script.headers)
    if "retry_after" in orders:
        headers = [pair for pair in headers if not pair[0].startswith(b"retry-after")]
        headers.append((b"retry-after", b"%d" % orders["retry_after"]))
    if "inject" in orders:
        headers.append((b"x-injected", b"a\r\nset-cookie: forged=1"))
    return replace(
        script,
        headers=headers,
        chunks=_split(script.pieces, orders.get("chunks")),
        head_delay=orders.get("delay", 0.0),
        body_delay=orders.get("hold", 0.0),
        delay=orders.get("chunk_delay", 0.0),
        framing=cast(Framing, orders.get("framing", script.framing)),
        cut_at=_cut_at(script, orders),
        cut_wire_at=orders.get("cut_wire_at"),
        cut=cast(Cut, "stall" if "stall" in orders else orders.get("cut", "fin")),
    )


def _cut_at(script: Script, orders: dict[str, Any]) -> int | None:
    ordered: int | None = orders.get("cut_at")
    if ordered is None and orders.keys() & {"stall", "cut"} and "cut_wire_at" not in orders:
        return len(script.payload) // 2
    return ordered


def _split(pieces: list[bytes], count: int | None) -> list[bytes]:
    """One body in `count` parts of nearly the same length; a stream comes in pieces already."""
    if count is None or len(pieces) != 1:
        return pieces
    body, length = pieces[0], -(-len(pieces[0]) // count)
    return [body[at : at + length] for at in range(0, len(body), length)]
