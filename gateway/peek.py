"""Reads two fields of a request body and splices single values; never parses or rewrites the rest.

Pure. A spliced body differs from the original in exactly the bytes of the value that changes: no
re-serialising, no reordering, unknown fields and whitespace kept. The corridor calls it.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import msgspec

from gateway.errors import Malformed

LONGEST_MODEL: Final = 1024  # characters; the longest real ones are ARNs of about 150
_MOST_STRINGS: Final = 100_000  # where the top level has to be walked


class Peek(msgspec.Struct, frozen=True, gc=False):
    """`model` None: absent, null or empty. `include_usage` None: no stream_options in the body."""

    model: str | None
    stream: bool
    include_usage: bool | None


class FormModel(NamedTuple):
    """The `model` field of a form and where its value stands in the head that was read."""

    value: str
    start: int
    end: int


class _Options(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    stream_options: _Options | None = None


class _Loose(msgspec.Struct):
    """For bodies whose fields have odd types: the provider is to say so, unless it is the model."""

    model: str | None = None
    stream: Any = None
    stream_options: Any = None


_body: Final = msgspec.json.Decoder(_Body)
_loose: Final = msgspec.json.Decoder(_Loose)
_members_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SPACE: Final = re.compile(rb"[ \t\n\r]*")
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_MODEL: Final = b'"model"'
_BACKSLASH: Final = 92  # as a number: looking for bytes, Python first raises and drops an error
_MODEL_MEMBER: Final = re.compile(rb'"model"[ \t\n\r]*:[ \t\n\r]*("(?:[^"\\]|\\.)*+")')
_OVERLAP: Final = len(_MODEL) - 1  # what a piece may cut in two, and `_ESCAPED_LETTER` needs fewer
_ESCAPED_LETTER: Final = re.compile(rb"\\u00[67]")  # a letter written so that a search misses it
_BOUNDARY: Final = re.compile(
    rb';\s*boundary\s*=\s*(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE
)
_DISPOSITION: Final = re.compile(
    rb"^content-disposition[ \t]*:[ \t]*form-data([^\r\n]*)", re.IGNORECASE | re.MULTILINE
)
_PARAMETER: Final = re.compile(
    rb';[ \t]*([A-Za-z*]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*+)"|([^;"]*+))', re.DOTALL
)


class Scan:
    """What peeking searches a body for, piece by piece as it arrives: a large body is then not
    searched all at once. `first`: where `"model"` stands for the first time, -1 if it does not.
    """

    __slots__ = ("_seen", "_tail", "first", "hides", "models")

    def __init__(self) -> None:
        self.models = 0  # how often `"model"` stands there
        self.first = -1
        self.hides = False  # letters are written so that a search may miss a key
        self._tail = b""
        self._seen = 0

    @property
    def fed(self) -> bool:
        return self._seen > 0

    def feed(self, piece: bytes) -> None:
        text = self._tail + piece if self._tail else piece
        found = text.count(_MODEL)
        if found and not self.models:
            self.first = self._seen - len(self._tail) + text.index(_MODEL)
        self.models += found
        self.hides = self.hides or _may_hide_keys(text)
        self._seen += len(piece)
        self._tail = text[-_OVERLAP:]


def peek(body: bytes, scan: Scan | None = None) -> Peek:
    """What the corridor needs to know of a JSON request. `scan`: of the whole body, if it exists.

    Raises Malformed (`invalid_json`) for what is not a JSON object, is nested too deep, or whose
    `model` is no string, is too long or stands there twice: two parsers might read it differently.
    """
    fields, usage = _read(body)
    if scan is None:
        doubtful = body.count(_MODEL) > 1 or _may_hide_keys(body)
    else:
        doubtful = scan.models > 1 or scan.hides
    if doubtful:
        _members(body)
    if fields.model is not None and len(fields.model) > LONGEST_MODEL:
        raise _invalid(f"`model` is longer than {LONGEST_MODEL} characters", "model")
    return Peek(fields.model or None, fields.stream is True, usage)


def replace_model(
    body: bytes, model: str, scan: Scan | None = None, *, named: bool = False
) -> bytes:
    """The body with another `model`, or with one where it had none. Raises Malformed.

    `named`: peek has read a model in it. `scan`: of the whole body, if it exists.
    """
    value = msgspec.json.encode(model)
    if named and (found := _only_model(body, scan)) is not None:
        return body[: found.start(1)] + value + body[found.end(1) :]
    for key, start, end in _members(body):
        if key == "model":
            return body[:start] + value + body[end:]
    return _insert(body, b'"model":' + value)


def _only_model(body: bytes, scan: Scan | None) -> re.Match[bytes] | None:
    """The member `model` of a body that has one, if no other key, of what depth ever, is alike."""
    if scan is None:
        scan = Scan()
        scan.feed(body)
    alone = scan.models == 1 and not scan.hides
    return _MODEL_MEMBER.match(body, scan.first) if alone else None


def add_include_usage(body: bytes) -> bytes:
    """The body asking for usage in the stream; other stream options stay. Raises Malformed.

    A `stream_options` that is neither object nor null is left for the provider to refuse.
    """
    for key, start, end in _members(body):
        if key == "stream_options":
            return body[:start] + _asking(body[start:end]) + body[end:]
    return _insert(body, b'"stream_options":{"include_usage":true}')


def form_model(head: bytes, content_type: bytes) -> FormModel | None:
    """The `model` field of a form, if it stands whole in `head`, the bytes read so far.

    Raises Malformed when it is there twice, or is no text.
    """
    boundary = _BOUNDARY.search(content_type)
    if boundary is None or not content_type.lower().startswith(b"multipart/form-data"):
        return None
    found: FormModel | None = None
    for start, end, name in _parts(head, b"--" + (boundary[1] or boundary[2])):
        if name == b"model":
            if found is not None:
                raise Malformed("the form names two models", param="model")
            found = FormModel(_text(head[start:end]), start, end)
    return found


def _invalid(message: str, param: str | None = None) -> Malformed:
    return Malformed(message, code="invalid_json", param=param)


def _read(body: bytes) -> tuple[_Body | _Loose, bool | None]:
    try:
        fields = _body.decode(body)
    except msgspec.ValidationError:
        loose = _read_loosely(body)
        asked = loose.stream_options
        return loose, asked.get("include_usage") is True if isinstance(asked, dict) else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _invalid("the body is not valid JSON") from None
    except RecursionError:
        raise _invalid("the body is nested too deep") from None
    options = fields.stream_options
    return fields, None if options is None else options.include_usage is True


def _read_loosely(body: bytes) -> _Loose:
    try:
        return _loose.decode(body)
    except msgspec.ValidationError:
        raise _invalid(
            "the body must be a JSON object whose `model` is a string", "model"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _invalid("the body is not valid JSON") from None
    except RecursionError:
        raise _invalid("the body is nested too deep") from None


def _members(body: bytes) -> list[tuple[str, int, int]]:
    """Each top-level key with where its value starts and ends. Raises Malformed on a second one.

    The decoder tells every value's text, so the walk jumps from key to key; that each value stands
    where the walk arrives is checked, since of two equal keys the decoder keeps the last value.
    """
    raws = _raw_members(body)
    members: list[tuple[str, int, int]] = []
    seen: set[str] = set()
    at = _skip(body, _skip(body, 0) + 1)
    while (name := _STRING.match(body, at)) is not None:
        key = msgspec.json.decode(name[0], type=str)
        start = _skip(body, _skip(body, name.end()) + 1)
        raw = bytes(raws[key])
        end = start + len(raw)
        after = _skip(body, end)
        if key in seen or not body.startswith(raw, start) or body[after : after + 1] not in b",}":
            raise _invalid(f"the key {key[:64]!r} stands twice in the body")
        seen.add(key)
        members.append((key, start, end))
        at = _skip(body, after + 1)
    return members


def _may_hide_keys(body: bytes) -> bool:
    return (
        _BACKSLASH in body and body.find(b"\\u00") >= 0 and _ESCAPED_LETTER.search(body) is not None
    )


def _raw_members(body: bytes) -> dict[str, msgspec.Raw]:
    # A million top-level keys would keep the loop busy for a second.
    if body.count(b'"') - body.count(b'\\"') > 2 * _MOST_STRINGS:
        raise _invalid(f"the body has more than {_MOST_STRINGS} strings")
    try:
        return _members_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid("the body is not a JSON object") from None


def _skip(body: bytes, at: int) -> int:
    space = _SPACE.match(body, at)
    return space.end() if space is not None else at


def _insert(body: bytes, member: bytes) -> bytes:
    """The object with one member more, in front."""
    at = body.index(b"{") + 1
    empty = body[_skip(body, at) : _skip(body, at) + 1] == b"}"
    return body[:at] + member + (b"" if empty else b",") + body[at:]


def _asking(options: bytes) -> bytes:
    if options == b"null":
        return b'{"include_usage":true}'
    if options[:1] != b"{":
        return options
    for key, start, end in _members(options):
        if key == "include_usage":
            return options[:start] + b"true" + options[end:]
    return _insert(options, b'"include_usage":true')


def _parts(head: bytes, delimiter: bytes) -> list[tuple[int, int, bytes | None]]:
    """Start, end and field name of every part that stands whole in `head`."""
    parts: list[tuple[int, int, bytes | None]] = []
    at = 0 if head.startswith(delimiter) else head.find(b"\r\n" + delimiter) + 2
    while at != 1 and head[at + len(delimiter) :][:2] == b"\r\n":
        start = head.find(b"\r\n\r\n", at)
        end = head.find(b"\r\n" + delimiter, start + 4 if start >= 0 else at)
        if start < 0 or end < 0:
            break
        parts.append((start + 4, end, _field_name(head[at:start])))
        at = end + 2
    return parts


def _field_name(headers: bytes) -> bytes | None:
    disposition = _DISPOSITION.search(headers)
    if disposition is None:
        return None
    for parameter in _PARAMETER.finditer(disposition[1]):
        if parameter[1].lower() == b"name":
            return parameter[2] if parameter[2] is not None else parameter[3].strip()
    return None


def _text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise Malformed("the form's model is not UTF-8", param="model") from None
    if len(text) > LONGEST_MODEL:
        raise Malformed(f"`model` is longer than {LONGEST_MODEL} characters", param="model")
    return text
