"""Base URLs: one spelling for what is good, a refusal for what could lead elsewhere."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from admin.configure.addresses import checked_base_url
from admin.configure.refusals import Refusal
from gateway.settings import Settings
from gateway.store.places import origin

LOOPBACK = Settings(allowed_upstream_cidrs=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
NOBODY = Settings()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        ("https://API.Example.com:443/v1/", "https://api.example.com/v1"),
        ("HTTPS://api.example.com", "https://api.example.com"),
        ("https://api.example.com:8443/a/b-c_d.e~f", "https://api.example.com:8443/a/b-c_d.e~f"),
        ("https://93.184.216.34/v1", "https://93.184.216.34/v1"),
        ("http://127.0.0.1:9000/v1", "http://127.0.0.1:9000/v1"),
        ("http://localhost:80/v1", "http://localhost/v1"),
        ("http://[0:0::1]:9000/v1", "http://[::1]:9000/v1"),
    ],
)
def test_checked_base_url_has_one_spelling(text: str, kept: str) -> None:
    assert checked_base_url(text, LOOPBACK) == kept
    assert checked_base_url(kept, LOOPBACK) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.example.com/v1",
        "//api.example.com/v1",
        "ftp://api.example.com/v1",
        "file:///etc/passwd",
        "https://",
        "https:///v1",
        "https://user@api.example.com/v1",
        "https://user:word@api.example.com/v1",
        "https://@api.example.com/v1",
        "https://api.example.com@evil.example/v1",
        "https://api.example.com/v1?x=1",
        "https://api.example.com/v1?",
        "https://api.example.com/v1#x",
        "https://api.example.com/v1/../admin",
        "https://api.example.com/./v1",
        "https://api.example.com/%2e%2e/v1",
        "https://api.example.com//v1",
        "https://api.example.com/v1//",
        "https://api.example.com/v1\\..",
        "https://api.example.com\\@evil.example/v1",
        "https://api.example.com/v 1",
        "https://api.example.com/v1\r\nx: y",
        "https://api.example.com/v1\n",
        "https://api.example.com:0/v1",
        "https://api.example.com:65536/v1",
        "https://api.example.com:/v1",
        "https://api.example.com:x/v1",
        "https://api.example.com./v1",
        "https://-api.example.com/v1",
        "https://api..example.com/v1",
        "https://ap\u0131.example.com/v1",
        "https://2130706433/v1",
        "https://127.1/v1",
        "https://0x7f.1/v1",
        "https://0177.0.0.1/v1",
        "https://[fe80::1%25eth0]/v1",
        "https://[::1/v1",
        "https://169.254.169.254/v1",
        "https://10.0.0.1/v1",
        "https://[::ffff:169.254.169.254]/v1",
        "http://93.184.216.34/v1",
        "https://example.com/" + "a" * 500,
    ],
)
def test_checked_base_url_refuses(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        checked_base_url(text, LOOPBACK)
    assert (caught.value.kind, caught.value.field) == ("bad_base_url", "base_url")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "https://127.0.0.1", "http://localhost"])
def test_loopback_is_open_only_where_an_operator_said_so(url: str) -> None:
    with pytest.raises(Refusal, match="WARDGATE_ALLOWED_UPSTREAM_CIDRS"):
        checked_base_url(url, NOBODY)


def test_plain_http_to_a_name_is_stored_only_where_an_operator_opened_ranges() -> None:
    assert checked_base_url("http://vllm:8000/v1", LOOPBACK) == "http://vllm:8000/v1"
    with pytest.raises(Refusal, match="WARDGATE_ALLOWED_UPSTREAM_CIDRS"):
        checked_base_url("http://vllm:8000/v1", NOBODY)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.example.com/v1", "https://api.example.com:443"),
        ("https://api.example.com:8443/v1", "https://api.example.com:8443"),
        ("http://[::1]/v1", "http://[::1]:80"),
        (None, ""),
    ],
)
def test_origin_always_has_a_port(url: str | None, shown: str) -> None:
    assert origin(url) == shown
