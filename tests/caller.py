"""A client of the gateway on a raw socket: plays planned requests and judges how each ended.

Compares every byte with what the plan allows; decides nothing about the gateway itself. Used by
test_endurance.py and large_bodies.py.
"""

from __future__ import annotations

import asyncio
import json
from typing import cast

from tests.endurance import PATIENCE, Book, Job, hang_up, unframed


class Caller(asyncio.Protocol):
    """One connection to the gateway; plays one job after another and says how each ended."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.usable, self.lost, self.left = True, False, False
        self.got = bytearray()
        self.over: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable, self.lost = False, True
        self._end()

    async def play(self, job: Job) -> None:
        """Send the request and read its answer to the end planned, or whichever comes."""
        loop = asyncio.get_running_loop()
        self.job, self.left, self.got = job, False, bytearray()
        self.body_at = self.length = 0
        self.over = loop.create_future()
        leave, timer = job.leave, None
        self.transport.write(job.request if leave is None else job.request[: leave.sent])
        if leave is not None:
            timer = loop.call_later(leave.after, self._leave)
        try:
            await asyncio.wait_for(self.over, PATIENCE)
            self.book.ends[self._judged(job)] += 1
        except TimeoutError:
            self._complain("nothing more came")
        except ValueError as error:
            self._complain(f"this is no answer: {error}")
        finally:
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self.over is None or self.over.done():
            self.book.wrong.append(f"bytes that belong to no request: {bytes(self.got[:300])!r}")
        elif self.job.leave is not None and len(self.got) >= self.job.leave.seen:
            self._leave()
        elif self._complete():
            self._end()

    def _complete(self) -> bool:
        if not self.body_at:
            end = self.got.find(b"\r\n\r\n") + 4
            if end < 4:
                return False
            self.body_at, head = end, bytes(self.got[:end]).lower()
            length = head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
            self.length = end + int(length) if length else 0
        if self.length:
            return len(self.got) == self.length
        return self.got.endswith(b"\r\n0\r\n\r\n")

    def _leave(self) -> None:
        assert self.job.leave is not None
        if not self.lost:
            self.left, self.usable = True, False
            hang_up(self.transport, reset=self.job.leave.reset)

    def _end(self) -> None:
        if self.over is not None and not self.over.done():
            self.over.set_result(None)

    def _judged(self, job: Job) -> str:
        """How it ended: "whole", "left", "refused", "broken", or "told" first; else "wrong"."""
        complete, cut = self._complete(), job.plan.cut != "no"
        if not self.body_at:
            return "left" if self.left else self._complain("closed without an answer")
        body, status = bytes(self.got[self.body_at :]), bytes(self.got[9:12])
        if not self.length:
            body, complete = unframed(body)
        if status != b"200":
            fits = cut and complete and status == b"502" and "error" in json.loads(body)
            return "refused" if fits else self._complain("an error answer")
        if self.left:
            return "left" if job.answer.startswith(body) else self._complain("another answer")
        if complete:
            fits = body == job.answer and not cut
            return "whole" if fits else self._complain("not this answer, or one cut, as if whole")
        return self._broken(job, body) if cut else self._complain("broken off")

    def _broken(self, job: Job, body: bytes) -> str:
        """What came before the cut must be here, and where an event can say so, one must."""
        before = job.plan.before_cut()
        told, kind = body.removeprefix(before), job.plan.kind
        if not body.startswith(before) or not before:
            return self._complain("less than came before the cut, or no error answer")
        if kind == "messages" or (kind == "chat" and before.endswith(b"\n\n")):
            fits = "error" in json.loads(told.rpartition(b"data: ")[2]) and told.endswith(b"\n\n")
            return "told" if fits else self._complain("not told of the cut")
        return self._complain("bytes that nobody sent") if told else "broken"

    def _complain(self, what: str) -> str:
        seen = bytes(self.got[:300]), bytes(self.got[-300:])
        self.book.wrong.append(f"{what}: {self.job.plan} {self.job.leave} {len(self.got)} {seen}")
        return "wrong"
