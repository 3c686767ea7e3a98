"""What is shaped like a key is cut, nothing else is, and hostile text costs no time."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.masking import mask

TAIL = "q7Zx9Kd2Lm4Np6Rt8Vw0"
KEYS = {
    "sk-" + TAIL: "sk-...8Vw0",
    "sk-proj-" + TAIL: "sk-proj-...8Vw0",
    "sk-ant-api03-" + TAIL: "sk-ant-api03-...8Vw0",
    "sk-or-v1-" + TAIL: "sk-or-v1-...8Vw0",
    "gsk_" + TAIL: "gsk_...8Vw0",
    "xai-" + TAIL: "xai-...8Vw0",
    "AIzaSy" + TAIL: "AIza...8Vw0",
    "AKIAIOSFODNN7EXAMPLE": "AKIA...MPLE",
    "wg_abcd_" + TAIL: "wg_...8Vw0",
    "wga_abcd_" + TAIL: "wga_...8Vw0",
    "hf_" + TAIL: "hf_...8Vw0",
    "eyJhbGciOi." + TAIL + ".x": "eyJ...w0.x",
    "sk-short12": "sk-***",
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "around",
    ["%s", "Incorrect API key provided: %s. Look.", "x\n%s\t", "“%s”", '{"a":"%s"}', "é%s", "a_%s"]
    + ["https://x.example/v1?key=%s&alt=sse", "Authorization: Bearer %s", "'%s'", "%%20%s"],
)
def test_keys_are_masked_wherever_they_stand(key: str, around: str) -> None:
    body = json.dumps({"message": around % key}).encode()
    masked = mask(body)
    assert key.encode() not in masked
    assert TAIL.encode() not in masked
    assert len(masked) <= len(body)
    assert json.loads(masked)["message"] == around % KEYS[key]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer 0a1b2c3d4e5f6a7b8c9d0e1f", "Authorization: Bearer ...0e1f"),
        ("bearer abcdefghijklmnopqrstuvwxyzabcdefghij", "bearer ...ghij"),
        ('{"api_key": "0123456789abcdef0123"}', '{"api_key": "...0123"}'),
        ("your api key 0123456789abcdef0123 is wrong", "your api key ...0123 is wrong"),
        ("API-Key: k1234567", "API-Key: ***"),
        ("secret: wJalrXUtnFEMI/K7MDENG/bPxRfiCY", "secret: ...fiCY"),
        ("GET /x?key=0123456789abcdefghij", "GET /x?key=...ghij"),
        ("Incorrect API key provided: sk-abcd****wxyz1234.", "Incorrect API key provided: sk-***."),
        (r"{\"api_key\":\"0123456789abcdef0123\"}", r"{\"api_key\":\"...0123\"}"),
    ],
)
def test_announced_tokens_are_masked(text: str, expected: str) -> None:
    assert mask(text.encode()).decode() == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain words",
        "task-force desk-research risk-free",
        "Bearer authentication is required",
        "invalid x-api-key",
        "The API key is invalid or missing.",
        "You can find your API key at https://platform.openai.com/account/api-keys.",
        '{"error":{"message":"model `gpt-4o-2024-08-06` not found","code":"model_not_found"}}',
        "req_0123456789abcdef0123456789abcdef",
        "sk-...8Vw0",
        "api key: sk-ant-api03-...8Vw0.",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert mask(text.encode()) == text.encode()


def test_dots_in_a_key_do_not_pass_it_for_masked() -> None:
    assert TAIL.encode() not in mask(f"sk-...{TAIL}...8Vw0 api key: {TAIL}...8Vw0".encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_masked_to_no_more_bytes(body: bytes) -> None:
    assert len(mask(body)) <= len(body)


@given(st.text(max_size=50), st.sampled_from(sorted(KEYS)), st.text(max_size=50))
def test_masked_json_is_still_json(before: str, key: str, after: str) -> None:
    body = json.dumps({"message": f"{before}{key}{after}"}).encode()
    json.loads(mask(body))


PATTERNS = [
    b"sk-",
    b"sk-a ",
    b"api key",
    b"api key    ",
    b"bearer ",
    b"?key=",
    b"api_key:::",
    b"eyJ",
]
PATTERNS += [
    b"a",
    b" ",
    b'"',
    b"\\",
    b'\\"',
    b"\\u00",
    b"%41",
    b".",
    b"token",
    b"secret:",
    b"-sk-",
    b"\x00\xff",
]


@pytest.mark.parametrize("piece", PATTERNS)
def test_a_megabyte_of_hostile_text_takes_no_time(piece: bytes) -> None:
    body = (piece * (1_000_000 // len(piece) + 1))[:1_000_000]
    start = time.process_time()
    mask(b"sk-" + body)
    assert time.process_time() - start < 1.5
