"""A worker's catalog: the file the publisher keeps beside the routing table, else the packaged one.

A file that is missing or damaged leaves the present catalog serving. Nothing is written here and
no database is asked. Used by worker.py.
"""

from __future__ import annotations

import os
from pathlib import Path

from gateway.catalog import Catalog, load, parse, unpack
from gateway.errors import CatalogBroken

Mark = tuple[int, int]  # inode and time of a file: another one after every replacement


class Shelf:
    """`catalog` is the one to serve by; `flaw` says why the file's is not, "" where it is."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._mark: Mark | None = None
        self.flaw = ""
        self.catalog = self.read() or load()

    def stale(self) -> bool:
        """True when there is a file that was not read yet."""
        try:
            return self._file is not None and _mark(self._file.stat()) != self._mark
        except OSError:
            return False

    def read(self) -> Catalog | None:
        """The file's catalog, from now on ours; None: no change. Takes some 30 ms."""
        self.flaw = ""
        if self._file is None:
            return None
        try:
            with self._file.open("rb") as file:
                found = os.fstat(file.fileno())
                # Also of a damaged one: it is complained about once.
                self._mark = _mark(found)
                # The publisher set the file's time to when the catalog was fetched.
                self.catalog = parse(unpack(file.read()), found.st_mtime)
                return self.catalog
        except FileNotFoundError:
            return None
        except (OSError, CatalogBroken) as error:
            self.flaw = str(error)
            return None


def _mark(found: os.stat_result) -> Mark:
    return found.st_ino, found.st_mtime_ns
