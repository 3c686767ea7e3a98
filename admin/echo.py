"""Whether a text gives a key away: eight of its letters and digits in a row, in any spelling.

Neither case nor signs between them hide it, nor percent signs, entities, escapes, hex, base64 or
reading it backwards. Pure. Called by probe.py, with what providers say.
"""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

_TELLING = 8
_NESTED = 3  # times that percent signs may stand for percent signs
_SIGNS = re.compile(r"[\W_]+")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})")
_DISGUISES = ("%", "&", "\\")


class Echo:
    """Looks for `keys`, each without the prefix that its vendor's keys share."""

    def __init__(self, keys: Iterable[str]) -> None:
        forms = {_squeezed(form) for key in keys if key for form in _forms(key)} - {""}
        self._runs = {run for form in forms for run in _runs(form)}
        # A key that is shorter than a run is looked for whole.
        self._short = {form for form in forms if len(form) < _TELLING}

    def heard_in(self, text: str) -> bool:
        return any(self._tells(_squeezed(reading)) for reading in _readings(text))

    def _tells(self, text: str) -> bool:
        return not self._runs.isdisjoint(_runs(text)) or any(key in text for key in self._short)


def _forms(key: str) -> Iterator[str]:
    raw = key.encode()
    yield from (key, key[::-1])
    if len(key) < _TELLING:
        return
    yield raw.hex()
    for before in range(3):
        # What stands before and behind the key colours the ends.
        coded = b64encode(bytes(before) + raw).decode()
        yield coded[4 if before else 0 : -4]


def _readings(text: str) -> Iterator[str]:
    yield text
    if not any(sign in text for sign in _DISGUISES):
        return
    plain = text
    for _ in range(_NESTED):
        plain = unquote(plain)
    yield plain
    yield html.unescape(text)
    yield _ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)), text)


def _squeezed(text: str) -> str:
    return _SIGNS.sub("", text).casefold()


def _runs(text: str) -> Iterator[str]:
    return (text[at : at + _TELLING] for at in range(len(text) - _TELLING + 1))
