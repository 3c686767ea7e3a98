"""The bytes on the wire: requests and answers, prepared once, sent often.

Nothing is parsed that need not be: requests and answers end in marks of ours. Used by the callers
of load.py and by the provider of provider.py.
"""

from __future__ import annotations

MODEL = "gpt-4o-mini"
UPSTREAM_KEY = "sk-bench-" + "u" * 39
MARK = b'"bench-end"}'
CHUNKED_END = b"\r\n0\r\n\r\n"
ENDS = (MARK, MARK + CHUNKED_END)
CONTENT = b'"content":" word"'  # once in every event that is counted
_SENTENCE = "A question of about the size people ask. "
USUAL = 45  # sentences; they make the body 2 KB
LARGE = 4_875  # 200 KB


def frame(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def request(key: str, *, stream: bool = False, sentences: int = USUAL) -> bytes:
    """A whole chat request as an SDK sends it, with `key` as the caller's credential."""
    body = (
        b'{"model":"%b","stream":%b,"messages":[{"role":"user","content":"%b"}],"user":"bench-end"}'
        % (MODEL.encode(), b"true" if stream else b"false", _SENTENCE.encode() * sentences)
    )
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"authorization: Bearer %b\r\ncontent-type: application/json\r\naccept: */*\r\n"
        b"user-agent: bench\r\ncontent-length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
    )


def _event(delta: bytes, finish: bytes) -> bytes:
    return (
        b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
        b'"model":"gpt-4o-mini-2024-07-18","system_fingerprint":"fp_bench","choices":'
        b'[{"index":0,"delta":{%b},"logprobs":null,"finish_reason":%b}]}\n\n' % (delta, finish)
    )


CHUNK = frame(_event(CONTENT, b"null"))
LAST = frame(_event(b"", b'"stop"')) + frame(b"data: [DONE]\n\n") + b"0\r\n\r\n"
STREAM_END = b"0\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"x-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
ANSWER = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,'
    b'"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Hello, and good to see you here. How can I help you today?","refusal":null},'
    b'"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":400,'
    b'"completion_tokens":16,"total_tokens":416},"system_fingerprint":"bench-end"}'
)
JSON_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
)
REFUSED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 11\r\n\r\n" + MARK[1:]
