"""Where aiohttp is known to behave otherwise than the rule, and why: facts, asserted as such.

The rules of `test_engine_*.py` hold for the gateway's own engine without exception. aiohttp is
measured with the same tests as a second opinion; where it differs, its outcome stands here.
"""

from __future__ import annotations

import importlib
from itertools import product
from pathlib import Path
from typing import Any

FAILED = "UpstreamError upstream_failed"
HELLO = "200 b'hello'"
LENIENT = "its build of llhttp is lenient"
UNTOLD = "refuses, but does not say that nothing was sent"
REPEATS = "repeats what is idempotent by its method, whatever came or was sent"
PARSER_STAYS = "what comes unasked is fed to the parser, which waits for the next request"
NEVER_CHECKED = "takes it for somebody else's business"
CLOCK_RESTARTS = "its clock of the head starts again with every byte"
HTML_URL = "yarl mends what a browser would mend"

# A test: what aiohttp does there and why, for some of its cases or (no names) for all of them.
Facts = list[tuple[str, object, str, list[str]]]
DIFFERS: Facts = [
    # cancellation
    (
        "test_answer_that_comes_with_the_cancellation_leaves_its_connection_alone",
        [1, 1],
        "closes the connection of whoever is cancelled",
        [],
    ),
    # addresses
    (
        "test_literal_address_that_is_not_permitted_is_not_connected_to",
        "UpstreamError upstream_denied",
        UNTOLD,
        ["https://[::ffff:127.0.0.1]:{port}", "https://[0:0:0:0:0:ffff:7f00:1]:{port}"],
    ),
    (
        "test_address_is_checked_for_every_connection",
        HELLO,
        "keeps a name's addresses 10 s",
        [],
    ),
    (
        "test_what_is_no_origin_is_not_connected_to",
        (HELLO, 1),
        HTML_URL,
        [
            "http://user@127.0.0.1:{port}",
            "http://user:secret@127.0.0.1:{port}",
            "http://evil.test@127.0.0.1:{port}",
            "http://127.0.0.1:{port}/path",
            "http://127.0.0.1:{port}/",
            "http://127.0.0.1:{port}?query",
            "http://127.0.0.1:{port}#fragment",
            "http://127.0.0.1\\t:{port}",
        ],
    ),
    (
        "test_what_is_no_origin_is_not_connected_to",
        (FAILED + " unsent", 0),
        "tried as a name, which it is not",
        ["http://127.0.0.1:{port}@evil.test", "http://127.0.0.1 :{port}"],
    ),
    ("test_what_is_no_origin_is_not_connected_to", (FAILED, 0), UNTOLD, ["ftp://127.0.0.1:{port}"]),
    ("test_what_is_no_origin_is_not_connected_to", ("ValueError", 0), "yarl raises its own", []),
    # answers
    (
        "test_early_answer_ends_with_what_the_sender_of_the_body_does",
        "hangs",
        "what the body's sender raises is not told to the reader of the answer",
        [],
    ),
    (
        "test_pieces_that_came_are_read_before_the_failure",
        "200 b'' then UpstreamError upstream_incomplete",
        "a failure throws away what nobody has read yet",
        [],
    ),
    # bodies
    (
        "test_reset_is_no_end_of_a_body_that_the_connection_delimits",
        False,
        "takes any end of the connection for the body's",
        [],
    ),
    (
        "test_badly_chunked_body_is_never_a_clean_end",
        True,
        LENIENT,
        ["blank behind", "bare line feed behind the data"],
    ),
    (
        "test_body_that_could_end_in_two_places_is_refused",
        "200 b'hello' then UpstreamTimeout upstream_timeout",
        "reads to the connection's end, as RFC 9112 allows",
        ["chunked not last", "chunked and more"],
    ),
    (
        "test_body_that_could_end_in_two_places_is_refused",
        HELLO,
        LENIENT,
        ["empty coding", "blank before the colon"],
    ),
    (
        "test_unknown_coding_is_refused_or_ends_with_the_connection",
        False,
        "undoes the chunks and forgets the other coding",
        ["gzip, chunked"],
    ),
    ("test_other_protocols_are_refused", "101 b''", "101 is an answer to it", []),
    # heads
    (
        "test_head_that_is_not_plain_http_is_refused",
        HELLO,
        LENIENT,
        [
            "HTTP/0.9 in the status line",
            "HTTP/2.0",
            "bare line feeds",
            "bare line feed in the status line",
            "bare line feed in a header",
            "bare line feed before the end",
            "bare line feed at the end",
            "folded",
            "folded with a tab",
            "folded at once",
            "blank before the colon of the length",
            "blank before the colon of the coding",
            "blank before the colon of the connection",
            "line of blanks",
        ],
    ),
    (
        "test_head_that_is_not_plain_http_is_refused",
        "99 b'hello'",
        "any three digits are a status",
        ["status below 100"],
    ),
    (
        "test_head_is_passed_on_as_it_is",
        FAILED,
        "at most 128 headers, and 32 KiB in one",
        ["500", "40 KiB in one"],
    ),
    (
        "test_head_larger_than_64_kib_is_refused",
        HELLO,
        "limits lines and their number, not the whole",
        [
            "many-at once",
            "many-in pieces",
            "behind interim ones-at once",
            "behind interim ones-in pieces",
        ],
    ),
    (
        "test_head_larger_than_64_kib_is_refused",
        "hangs",
        "limits lines and their number, not the whole",
        ["many-without an end", "behind interim ones-without an end"],
    ),
    # pool
    (
        "test_connection_is_closed_when_the_answer_says_so",
        1,
        "HTTP/1.0 may be kept, too",
        ["1.0 keep-alive"],
    ),
    (
        "test_newcomer_does_not_overtake_the_line",
        [b"/first", b"/newcomer", b"/waited"],
        "who comes looks for a free place before looking at the line",
        [],
    ),
    ("test_connection_is_not_kept_when_the_upstream_keeps_it_no_time", 1, NEVER_CHECKED, []),
    ("test_upstreams_own_keep_alive_shortens_the_idle_time", 1, NEVER_CHECKED, []),
    (
        "test_requests_under_way_fail_when_the_engine_is_closed",
        ["goes on", "was cancelled"],
        "who waits is cancelled, and who has a connection left alone",
        [],
    ),
    ("test_closed_engine_sends_nothing", (HELLO, 2), "the reference begins anew", []),
    # requests
    ("test_method_that_is_no_token_is_not_sent", HELLO, "an empty method is GET", ["empty"]),
    ("test_method_that_is_no_token_is_not_sent", FAILED, UNTOLD, []),
    (
        "test_target_that_is_no_path_is_not_sent",
        HELLO,
        HTML_URL,
        [
            *("line end", "a request", "line feed", "carriage return", "blank", "blank at the end"),
            *("tab", "empty", "query alone"),
        ],
    ),
    ("test_target_that_is_no_path_is_not_sent", FAILED, UNTOLD, ["NUL", "escape", "DEL"]),
    (
        "test_target_that_is_no_path_is_not_sent",
        "UnicodeDecodeError",
        "the reference decodes before it looks",
        ["not ASCII"],
    ),
    (
        "test_target_that_is_no_path_is_not_sent",
        "UpstreamError upstream_denied",
        UNTOLD,
        ["another host"],
    ),
    ("test_target_that_is_no_path_is_not_sent", "ValueError", "yarl raises its own", []),
    (
        "test_header_that_could_be_two_is_not_sent",
        HELLO,
        "names are looked at for line ends only",
        [
            *("colon in a name", "blank in a name", "blank behind a name", "empty name"),
            "name not ASCII",
        ],
    ),
    ("test_header_that_could_be_two_is_not_sent", FAILED, UNTOLD, []),
    (
        "test_body_that_could_end_in_two_places_is_not_sent",
        "UpstreamTimeout upstream_timeout",
        "sends it; the upstream waits for more",
        ["too long", "two framings", "two framings, arriving"],
    ),
    (
        "test_body_that_could_end_in_two_places_is_not_sent",
        HELLO,
        "sends it; what is left over is the next request",
        ["too short", "two lengths", "a coding of its own", "two lengths, arriving"],
    ),
    ("test_body_that_could_end_in_two_places_is_not_sent", FAILED, UNTOLD, []),
    (
        "test_request_is_on_the_wire_as_it_was_given",
        [(b"content-length", b"0")],
        "announces that there is no body",
        ["delete", "a method of its own"],
    ),
    (
        "test_value_that_is_not_utf_8_is_on_the_wire_as_it_was_given",
        "café".encode(),
        "writes all text as UTF-8",
        [],
    ),
    (
        "test_body_of_another_length_than_announced_fails",
        "UpstreamTimeout upstream_timeout",
        "cuts or leaves open what it sends, and waits for the answer",
        [],
    ),
    (
        "test_failure_of_the_sender_is_the_requests_own",
        FAILED,
        "whatever is raised is a failed connection to it",
        [],
    ),
    # reuse
    (
        "test_body_is_never_sent_twice_whatever_the_method",
        (HELLO, 3),
        REPEATS,
        ["GET", "PUT", "DELETE", "DELETE of nothing"],
    ),
    (
        "test_second_try_is_on_a_fresh_connection_when_others_lie_idle",
        (FAILED, 2),
        "the second try may use another kept connection",
        [],
    ),
    ("test_fresh_connection_that_dies_is_not_replaced", 2, REPEATS, []),
    ("test_request_is_not_repeated_when_an_answer_had_begun", (HELLO, 3), REPEATS, []),
    (
        "test_connection_whose_end_came_with_the_answer_is_not_used_again",
        {HELLO, FAILED},
        "looks for the end of an idle connection only when the loop has told of it",
        [],
    ),
    (
        "test_bytes_that_nobody_asked_for_close_an_idle_connection",
        (False, "200 b'evil'", [1]),
        PARSER_STAYS,
        ["an answer"],
    ),
    (
        "test_bytes_that_nobody_asked_for_close_an_idle_connection",
        (False, "UpstreamTimeout upstream_timeout", [1]),
        PARSER_STAYS,
        [],
    ),
    (
        "test_surplus_behind_a_whole_answer_is_nobodys",
        ([HELLO, HELLO], [2]),
        PARSER_STAYS,
        ["counted, half a head"],
    ),
    (
        "test_surplus_behind_a_whole_answer_is_nobodys",
        ([FAILED, HELLO], [1, 1]),
        "an error of the parser outweighs the answer that came before it",
        ["counted, bytes"],
    ),
    (
        "test_body_of_a_head_answer_is_nobodys",
        FAILED,
        "an error of the parser outweighs the answer that came before it",
        [],
    ),
    # timeouts
    ("test_head_takes_no_longer_than_the_first_byte_may", "hangs", CLOCK_RESTARTS, ["interim"]),
    (
        "test_head_that_trickles_does_not_hold_a_request_for_ever",
        "hangs",
        CLOCK_RESTARTS,
        [],
    ),
    (
        "test_writing_takes_no_longer_than_the_upstream_may_stop_reading",
        "hangs",
        "has no clock for writing",
        [],
    ),
    # tls
    ("test_session_is_taken_up_again", [False, False, False], "makes every session anew", []),
    (
        "test_end_that_anybody_on_the_way_can_make_is_no_end",
        HELLO,
        "takes any end of the connection for the body's",
        ["open end, cut below TLS-1.2", "open end, cut below TLS-1.3"],
    ),
]


def differing(test: str) -> tuple[object, ...]:
    """aiohttp's outcome of a test with its case, if it is another than the rule's."""
    name, _, case = test.removesuffix("]").partition("[")
    found = [(outcome, cases) for known, outcome, _, cases in DIFFERS if known == name]
    return tuple(outcome for outcome, cases in found if not cases or case in cases)[:1]


def cases_of(test: Any) -> set[str]:
    """The names of a test's cases, as pytest would make them; all are plain texts."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    parts = product(*([str(value) for value in mark.args[1]] for mark in marks))
    return {"-".join(part).encode("unicode_escape").decode() for part in parts}


def test_every_difference_belongs_to_a_test_and_its_cases() -> None:
    known: dict[str, set[str]] = {}
    for path in sorted(Path(__file__).parent.glob("test_engine_*.py")):
        module = importlib.import_module(f"tests.{path.stem}")
        tests = {name: test for name, test in vars(module).items() if name.startswith("test_")}
        known |= {name: cases_of(test) for name, test in tests.items()}
    for name, _, reason, cases in DIFFERS:
        assert reason
        assert set(cases) <= known[name], name
