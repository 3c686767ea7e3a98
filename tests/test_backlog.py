"""What waits is done once, in its order, whoever asks for it and from wherever."""

from __future__ import annotations

import threading

from gateway.backlog import Backlog, settle


class Numbers(Backlog[int]):
    """Keeps what was worked off."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[list[int]] = []

    def work_off(self, notes: list[int]) -> None:
        settle()  # as a log line does that this work writes
        self.done.append(notes)


def test_what_waits_is_worked_off_once_and_in_its_order() -> None:
    numbers = Numbers()
    settle()
    numbers.waiting += [1, 2]
    settle()
    settle()
    numbers.waiting.append(3)
    settle()
    assert numbers.done == [[1, 2], [3]]


def test_nothing_is_lost_or_done_twice_when_another_thread_settles() -> None:
    numbers, stop = Numbers(), threading.Event()

    def keep_settling() -> None:
        while not stop.is_set():
            settle()

    other = threading.Thread(target=keep_settling)
    other.start()
    for number in range(20_000):
        numbers.waiting.append(number)
    stop.set()
    other.join()
    settle()
    assert [number for notes in numbers.done for number in notes] == list(range(20_000))
