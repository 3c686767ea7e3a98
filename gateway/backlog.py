"""What requests have left to be counted and written down, for a moment.

Whoever shows counts or writes a line calls `settle` first: nobody sees that anything has waited.
Pure. Kept by record.py, which also sees to it that nothing waits long; settled by metrics, logs
and health.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import RLock
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# The loop's thread alone counts; but a line may come from any other, and settles first.
lock = RLock()
_kept: list[Backlog[Any]] = []


class Backlog(ABC, Generic[T]):
    """Notes in the order they were made, and what is to be done with them."""

    def __init__(self) -> None:
        self.waiting: list[T] = []  # one list for good: appending to it takes no lock
        _kept.append(self)

    @abstractmethod
    def work_off(self, notes: list[T]) -> None:
        """Do what has waited. Whoever is called by this may settle in turn: nothing waits then."""

    def settle(self) -> None:
        with lock:
            notes = self.waiting[:]
            del self.waiting[: len(notes)]
            if notes:
                self.work_off(notes)


def settle() -> None:
    for backlog in _kept:
        backlog.settle()
