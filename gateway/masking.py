"""Masks whatever is shaped like a key: provider error bodies and log texts pass through here.

Pure. Every pattern reads a byte at most a fixed number of times, so hostile text costs no more than
other text. What is masked gets shorter and stays valid inside JSON. Called by stream, logs,
record and spans.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_TOKEN: Final = rb"[A-Za-z0-9_\-.~+/=*]"
_PREFIXES: Final = (
    rb"sk-ant-(?:api|admin|oat)[0-9]{2}-|sk-ant-|sk-proj-|sk-svcacct-|sk-or-v1-|sk-"
    rb"|wga?_|gsk_|xai-|AIza|A[KS]IA|hf_|r8_|pplx-|fw_|nvapi-|csk-|tgp_|ya29\.|glpat-"
    rb"|gh[opusr]_|github_pat_|dapi|eyJ|ABSK"
)
# Not inside a word, unless the letters before are the end of an escape of JSON or of a URL.
_START: Final = rb"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt])|(?<=\\u[0-9a-fA-F]{4})|(?<=%[0-9a-fA-F]{2}))"
# A vendor's prefix and what follows it. Possessive, so a run is read once.
_SHAPED: Final = re.compile(_START + rb"(" + _PREFIXES + rb")(" + _TOKEN + rb"{6,}+)")
# A word that announces a key, at most a few signs between, and a long token.
_ANNOUNCED: Final = re.compile(
    rb"(api[ _-]?key|access[ _-]?key|(?:access|auth|security|session)[ _-]?token|secret|password"
    rb"|bearer|basic|[?&](?:key|token))((?: (?:provided|is|was|id))?(?:\\?[\"'])?[ \t]{0,4}[:=]?"
    rb"[ \t]{0,4}(?:\\?[\"'])?)(" + _TOKEN + rb"{8,}+)",
    re.IGNORECASE,
)
# One of these stands in every match: a search for them is far cheaper than the patterns.
_SIGNS: Final = tuple(
    b"sk- wg_ wga_ sk_ xai- AIza KIA SIA hf_ r8_ pplx- fw_ nvapi- tgp_ ya29. glpat-"
    b" ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ dapi eyJ ABSK".split()
)
_WORDS: Final = (b"key", b"token", b"secret", b"password", b"bearer", b"basic")
_LONG: Final = 20  # shorter keys show no end: four characters would be too much of them
_LONGEST_PREFIX: Final = len(b"sk-ant-admin01-")
_DIGIT: Final = re.compile(rb"[0-9]")


def mask(body: bytes) -> bytes:
    """The bytes with every key in them cut to its prefix, `...` and its last four characters."""
    if any(sign in body for sign in _SIGNS):
        body = _SHAPED.sub(_shaped, body)
    lower = body.lower()
    if any(word in lower for word in _WORDS):
        body = _ANNOUNCED.sub(_announced, body)
    return body


@lru_cache(maxsize=1024)
def shown(word: str) -> str:
    """A client's own word, fit to be shown: somebody may have put a key there."""
    return mask(word[:128].encode("utf-8", "replace")).decode("utf-8", "replace")


def _shaped(found: re.Match[bytes]) -> bytes:
    return found[0] if _is_masked(found[0]) else found[1] + _end(found[0])


def _announced(found: re.Match[bytes]) -> bytes:
    token = found[3]
    # Words are let through: "bearer authentication", "api key is invalid".
    word = len(token) < 32 and _DIGIT.search(token) is None
    return found[0] if word or _is_masked(token) else found[1] + found[2] + _end(token)


def _is_masked(token: bytes) -> bool:
    """Already a prefix, three dots and an end: of us, or of the provider."""
    prefix, dots, end = token.rstrip(b".").rpartition(b"...")
    return bool(dots) and len(prefix) <= _LONGEST_PREFIX and len(end) <= 4


def _end(token: bytes) -> bytes:
    """What stays of a key after its prefix; a full stop behind it is the sentence's."""
    key = token.rstrip(b".")
    stop = token[len(key) :]
    return (b"..." + key[-4:] if len(key) >= _LONG else b"***") + stop
