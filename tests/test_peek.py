"""Reading two fields of a body, and splicing one value without touching another byte."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Malformed
from gateway.peek import (
    FormModel,
    Peek,
    Scan,
    add_include_usage,
    form_model,
    peek,
    replace_model,
)
from tests.recorded import Recorded, recorded

SUITE = json.loads((Path(__file__).parent / "json_suite.json").read_text())
BODIES = [r for r in recorded() if r.sent is not None]

VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1.5e300, "", "é😀", '"model":"x"', "\\", '\\"', "a\u2028b\n", [], {}, [[[]]]]
    + [{"model": "inner"}, [{"model": 1, "stream_options": {}}], {"": {"a": [1, "}", "]"]}}]
)
OPTIONS = st.none() | st.dictionaries(st.sampled_from(["include_usage", "x", "é"]), st.booleans())
KEYS = st.sampled_from(["stream", "messages", "models", "", "é", "\n", "Model", 'model"', "\\"])
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)
MODELS = st.text(alphabet=st.characters(exclude_categories=["C"]), max_size=12)
SPACES = st.text(alphabet=" \t\n\r", max_size=3)


def written(value: Any, indent: int | None, ascii_only: bool, around: tuple[str, str]) -> bytes:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    return (around[0] + text + around[1]).encode()


@st.composite
def bodies(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    value = draw(OBJECTS)
    if draw(st.booleans()):
        value["model"] = draw(st.text(max_size=10) | st.none())
    if draw(st.booleans()):
        value["stream_options"] = draw(OPTIONS)
    keys = draw(st.permutations(list(value)))
    value = {key: value[key] for key in keys}
    around = draw(st.tuples(SPACES, SPACES))
    return value, written(value, draw(st.sampled_from([None, 0, 2])), draw(st.booleans()), around)


def kept(before: bytes, after: bytes) -> tuple[bytes, bytes]:
    """What is left of both after their longest common beginning and end."""
    same = min(len(before), len(after))
    start = next((i for i in range(same) if before[i] != after[i]), same)
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return before[start : len(before) - end], after[start : len(after) - end]


@given(bodies(), MODELS)
def test_replaced_model_is_the_only_change(pair: tuple[dict[str, Any], bytes], model: str) -> None:
    value, body = pair
    spliced = replace_model(body, model)
    assert json.loads(spliced) == {**value, "model": model}
    gone, come = kept(body, spliced)
    limit = len(json.dumps(value.get("model"))) if "model" in value else 0
    assert len(gone) <= limit
    assert len(come) <= len(json.dumps(model).encode()) + len(b'"model":,') + limit


@given(bodies())
def test_added_usage_is_the_only_change(pair: tuple[dict[str, Any], bytes]) -> None:
    value, body = pair
    spliced = add_include_usage(body)
    options = {**(value.get("stream_options") or {}), "include_usage": True}
    assert json.loads(spliced) == {**value, "stream_options": options}
    gone, come = kept(body, spliced)
    assert len(gone) <= 5
    assert len(come) <= len(b'"stream_options":{"include_usage":true},') + 5


@given(bodies())
def test_peek_reads_what_json_reads(pair: tuple[dict[str, Any], bytes]) -> None:
    value, body = pair
    options = value.get("stream_options")
    seen = peek(body)
    assert seen.model == (value.get("model") or None)
    assert seen.stream == (value.get("stream") is True)
    assert (seen.include_usage is True) == bool(options and options.get("include_usage"))


@pytest.mark.parametrize("exchange", BODIES, ids=lambda r: r.name)
def test_recorded_bodies_are_read_and_spliced(exchange: Recorded) -> None:
    sent = exchange.sent
    asked = (sent.get("stream_options") or {}).get("include_usage") is True
    seen = peek(exchange.body)
    assert (seen.model, seen.stream) == (sent.get("model"), sent.get("stream", False) is True)
    assert (seen.include_usage is True) == asked
    assert json.loads(replace_model(exchange.body, "other")) == {**sent, "model": "other"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", Peek(None, False, None)),
        (b' \n{"model" : "m" , "stream":true}\t', Peek("m", True, None)),
        (b'{"model":null,"stream":null,"stream_options":null}', Peek(None, False, None)),
        (b'{"model":""}', Peek(None, False, None)),
        (b'{"\\u006dodel":"m"}', Peek("m", False, None)),
        (b'{"mod\\u0065l":"m","tools":[{"model":1}]}', Peek("m", False, None)),
        (b'{"stream_options":{"include_usage":true}}', Peek(None, False, True)),
        (b'{"stream_options":{}}', Peek(None, False, False)),
        (b'{"model":"m","stream":"yes","stream_options":7}', Peek("m", False, None)),
        (b'{"model":"\\ud83d\\ude00"}', Peek("😀", False, None)),
        (b'{"tools":[{"model":"x"}],"model":"m"}', Peek("m", False, None)),
        (b'{"stream":false,"stream":true}', Peek(None, True, None)),
        (
            b'{"model":"m","stream":1,"stream_options":{"include_usage":true}}',
            Peek("m", False, True),
        ),
        (b'{"model":"m","user":"\xff\xfe"}', Peek("m", False, None)),
    ],
)
def test_peek_of_plain_bodies(body: bytes, expected: Peek) -> None:
    assert peek(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"model"',
        b'["model","m"]',
        b"{",
        b'{"model":"m"',
        b'{"model":"m"}}',
        b'{"model":"m",}',
        b"{'model':'m'}",
        b'{"model":NaN}',
        b'{"temperature":NaN,"model":"m"}',
        b'{"model":5}',
        b'{"model":["m"]}',
        b'{"model":{"a":1}}',
        b'\xef\xbb\xbf{"model":"m"}',
        '{"model":"m"}'.encode("utf-16"),
        b'{"model":"\xff"}',
        b'{"model":"\\ud800"}',
        b'{"model":"a","model":"b"}',
        b'{"model":"a","model":"a"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"\\u006dodel":"a","\\u006dodel":"b"}',
        b'{"model":"' + b"m" * 1025 + b'"}',
        b'{"model":"' + b"m" * 1_000_000 + b'"}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"model":"m"}',
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"[" * 100_000,
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)
def test_peek_refuses_what_two_parsers_may_read_differently(body: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        peek(body)
    assert caught.value.code == "invalid_json"
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("name", SUITE)
def test_json_suite_inside_a_body(name: str) -> None:
    text = base64.b64decode(SUITE[name])
    for body in (b'{"model":"m","x":' + text + b"}", b'{"x":' + text + b',"model":"m"}'):
        try:
            read = peek(body).model == "m"
        except Malformed:
            read = False
        assert name.startswith("i_") or read == name.startswith("y_")


def test_an_object_of_a_million_keys_is_read_quickly() -> None:
    body = b'{"model":"m",' + b",".join(b'"k%d":1' % i for i in range(400_000)) + b"}"
    start = time.process_time()
    assert peek(body).model == "m"
    with pytest.raises(Malformed, match="strings"):
        replace_model(body, "n")
    assert time.process_time() - start < 0.25


@given(bodies(), MODELS, st.lists(st.integers(0, 200), max_size=6))
def test_a_body_searched_in_pieces_reads_and_splices_like_a_whole_one(
    pair: tuple[dict[str, Any], bytes], model: str, cuts: list[int]
) -> None:
    body, scan = pair[1], Scan()
    ends = [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in zip([0, *ends], ends, strict=False):
        scan.feed(body[start:end])
    seen = peek(body)
    assert peek(body, scan) == seen
    named = seen.model is not None
    assert replace_model(body, model, scan, named=named) == replace_model(body, model)
    assert replace_model(body, model, named=named) == replace_model(body, model)


def test_a_model_is_replaced_quickly_among_a_million_keys() -> None:
    many = b",".join(b'"k%d":1' % i for i in range(400_000))
    body = b'{"tools":[{' + many + b'}],"model":"openai/gpt-4o"}'
    scan = Scan()
    for at in range(0, len(body), 65_536):
        scan.feed(body[at : at + 65_536])
    start = time.process_time()
    assert peek(body, scan).model == "openai/gpt-4o"
    assert replace_model(body, "m", scan, named=True).endswith(b'}],"model":"m"}')
    assert time.process_time() - start < 0.15


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"model":"n"}'),
        (b"{ }", b'{"model":"n" }'),
        (b' {"a": [1, {"model": 2}]}', b' {"model":"n","a": [1, {"model": 2}]}'),
        (b'{"model" :\t"a/b" ,"x":1.0}', b'{"model" :\t"n" ,"x":1.0}'),
        (b'{"\\u006dodel":null}', b'{"\\u006dodel":"n"}'),
        (b'{"a":"\\"model\\":\\"x\\"","model":"y"}', b'{"a":"\\"model\\":\\"x\\"","model":"n"}'),
        (b'{"model":5}', b'{"model":"n"}'),
    ],
)
def test_replace_model_touches_one_value(body: bytes, expected: bytes) -> None:
    assert replace_model(body, "n") == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (b"null", b'{"include_usage":true}'),
        (b"{}", b'{"include_usage":true}'),
        (b'{"include_usage":false}', b'{"include_usage":true}'),
        (b'{ "include_usage" : null }', b'{ "include_usage" : true }'),
        (b'{"x":[1]}', b'{"include_usage":true,"x":[1]}'),
        (b'{"include_usage":true}', b'{"include_usage":true}'),
        (b"7", b"7"),
        (b'"x"', b'"x"'),
    ],
)
def test_include_usage_joins_what_is_there(options: bytes, expected: bytes) -> None:
    body = b'{"stream_options": %s , "model":"m"}'
    assert add_include_usage(body % options) == body % expected


@pytest.mark.parametrize("splice", [lambda b: replace_model(b, "n"), add_include_usage])
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":1,"a":2}', b'{"a":1,"a":1}'])
def test_splicing_refuses_bodies_it_cannot_walk(splice: Any, body: bytes) -> None:
    with pytest.raises(Malformed):
        splice(body)


def form(*parts: tuple[str, bytes], boundary: bytes = b"XyZ", end: bytes = b"--\r\n") -> bytes:
    written = b"".join(
        b"--%s\r\ncontent-disposition: form-data; %s\r\n\r\n%s\r\n" % (boundary, h.encode(), v)
        for h, v in parts
    )
    return written + b"--" + boundary + end


FORM = b"multipart/form-data; boundary=XyZ"


def test_form_model_is_found_with_its_place() -> None:
    head = form(('name="purpose"', b"x"), ('name="model"', b"whisper-1"), ('name="file"', b"\x00"))
    found = form_model(head, FORM)
    assert found is not None
    assert (found.value, head[found.start : found.end]) == ("whisper-1", b"whisper-1")


@pytest.mark.parametrize(
    "kind",
    [
        b'multipart/form-data; boundary="XyZ"',
        b"Multipart/Form-Data; charset=utf-8; Boundary=XyZ",
        b"multipart/form-data;boundary=XyZ",
    ],
)
def test_boundaries_are_read_as_clients_write_them(kind: bytes) -> None:
    assert form_model(form(("name=model", b"m")), kind) == FormModel("m", 53, 54)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"--XyZ",
        form(('name="file"; filename="a; name=model"', b"no")),
        form(('name="file"; filename="\\"; name=\\"model"', b"no")),
        form(('name="models"', b"no")),
        form(("filename=model", b"no")),
        form(('name="model"', b"cut"))[:-10],
        form(('name="model"', b"m"), boundary=b"other"),
        b"--XyZ\r\ncontent-disposition: attachment; name=model\r\n\r\nm\r\n--XyZ--\r\n",
    ],
)
def test_form_model_is_absent_unless_it_stands_there_whole(head: bytes) -> None:
    assert form_model(head, FORM) is None


@pytest.mark.parametrize("kind", [b"application/json", b"", b"multipart/form-data"])
def test_other_bodies_have_no_form_model(kind: bytes) -> None:
    assert form_model(form(('name="model"', b"m")), kind) is None


@pytest.mark.parametrize(
    "parts",
    [
        [('name="model"', b"a"), ('name="model"', b"b")],
        [('name="model"', b"\xff")],
        [('name="model"', b"m" * 2000)],
    ],
)
def test_forms_with_a_doubtful_model_are_refused(parts: list[tuple[str, bytes]]) -> None:
    with pytest.raises(Malformed):
        form_model(form(*parts), FORM)


@pytest.mark.parametrize(
    "head",
    [b"--XyZ\r\n" * 20_000, b"\r\n--XyZ\r\n\r\n" * 10_000, b"a" * 65_536, b"--XyZ\r\n;" * 9_000],
)
def test_hostile_forms_cost_little(head: bytes) -> None:
    start = time.process_time()
    form_model(head, FORM)
    assert time.process_time() - start < 0.2
