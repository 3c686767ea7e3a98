"""All dialects offer the same, and none of them leaves the base path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.dialect import below
from gateway.dialects.table import DIALECTS, speaks
from gateway.errors import Malformed, NotFound, WrongMethod
from gateway.paths import match
from gateway.shapes import DialectName
from tests.dialect_cases import config

PROTOCOL = {"HEARTBEAT", "target", "authorize", "defaults", "render", "error_event", "ends"}
PROTOCOL |= {"usage", "list_models", "one_model"}
PREFIXES = (
    *(b"/v1/models/", b"/v1/files/", b"/v1/acc/gw/openai/", b"/openai/deployments/"),
    *(b"/model/", b"/v1/acc/gw/aws-bedrock/", b"/v1/acc/gw/bedrock/model/"),
)


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_offers_the_whole_protocol(name: DialectName) -> None:
    assert {part for part in PROTOCOL if not hasattr(DIALECTS[name], part)} == set()


def test_azure_serves_openais_paths_and_nobody_else_a_foreign_one() -> None:
    foreign = {(a, b) for a in DIALECTS for b in DIALECTS if a != b and speaks(a, b)}
    assert foreign == {("azure", "openai")}
    assert all(speaks(name, name) for name in DIALECTS)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"/",
        b"x",
        b"//evil.example/x",
        b"/a//b",
        b"/../x",
        b"/a/..",
        b"/a/./b",
        b"/a/%2e%2E/b",
        b"/a/.%2e",
        b"/a%2fb",
        b"/a%5Cb",
        b"/a\\b",
        b"/a%00b",
        b"/a%0d%0ab",
        b"/a\r\nb",
        b"/a b",
        b"/a?b",
        b"/a#b",
        b"/a%",
        b"/a%zz",
        b"/\xc3\xa9",
        b"@evil.example/x",
        b"http://evil.example/",
    ],
)
def test_paths_that_could_leave_the_base_are_refused(rest: bytes) -> None:
    with pytest.raises(Malformed):
        below(b"/v1", rest)


@pytest.mark.parametrize(
    "rest", [b"/a", b"/a/", b"/a.b/..c/d..", b"/m%3Ax@1:go", b"/%41%e2%82%ac", b"/a+b;c=d,(e)!~'*"]
)
def test_plain_paths_are_put_below_the_base(rest: bytes) -> None:
    assert below(b"/v1", rest) == b"/v1" + rest


TAILS = st.binary(max_size=40) | st.text("./%2Fa", max_size=12).map(
    lambda text: text.encode() + b"/converse"
)


@given(TAILS, st.sampled_from(sorted(DIALECTS)), st.sampled_from(["POST", "GET"]))
def test_no_path_and_no_dialect_leaves_the_base(
    tail: bytes, name: DialectName, method: str
) -> None:
    conf = config(name, "https://h/base/v1")
    for prefix in PREFIXES:
        try:
            path, _ = DIALECTS[name].target(conf, match(method, prefix + tail), b"")
        except (Malformed, NotFound, WrongMethod):
            continue
        assert path.startswith(b"/base/")
        plain = path.replace(b"%2F", b"/").replace(b"%2f", b"/")
        assert not {b"..", b".", b""} & set(plain.rstrip(b"/").split(b"/")[1:])
