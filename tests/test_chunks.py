"""Chunks known at sight: what is known is what the parser reads there, and nothing else is."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.chunks import payload

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
# What chunks are made of, and what they may be mistaken for.
PARTS = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"0", b"1", b"5", b"a", b"A", b"05", b"10", b"0x5", b"+5", b" 5", b"5_"]
    + [b"5;x", b"hello", b"x" * 16, b"0123456789abcdef", b" ", b"5\r\nhello\r\n", b"0\r\n\r\n"]
)


class Parsed:
    """What httptools makes of a chunked body: its pieces, and how many chunks are whole."""

    def __init__(self, body: bytes) -> None:
        self.pieces: list[bytes] = []
        self.chunks = self.ends = 0
        httptools.HttpResponseParser(self).feed_data(HEAD + body)

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def on_chunk_complete(self) -> None:
        self.chunks += 1

    def on_message_complete(self) -> None:
        self.ends += 1


@given(st.one_of(st.lists(PARTS, max_size=8).map(b"".join), st.binary(max_size=40)))
def test_what_is_known_is_one_chunk_to_the_parser(data: bytes) -> None:
    piece = payload(data)
    if piece is not None:
        parsed = Parsed(data)
        assert (b"".join(parsed.pieces), parsed.chunks, parsed.ends) == (piece, 1, 0)


@pytest.mark.parametrize("size", [*range(1, 300), 4095, 4096])
def test_a_plain_chunk_is_known(size: int) -> None:
    body = b"\r\n" * size
    assert payload(b"%x\r\n%b\r\n" % (size, body[:size])) == body[:size]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"0\r\n\r\n",  # the last one
        b"A\r\n0123456789\r\n",
        b"05\r\nhello\r\n",
        b"5;x\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello\n\n",
        b"5\r\nhello\r",
        b"5\r\nhell\r\n",
        b"6\r\nhello\r\n",
        b"5\r\nhello\r\n5\r\nhello\r\n",
        b"hello\r\n",
        b"%x\r\n%b\r\n" % (4097, b"x" * 4097),  # larger than the table
    ],
)
def test_anything_else_is_the_parsers(data: bytes) -> None:
    assert payload(data) is None
