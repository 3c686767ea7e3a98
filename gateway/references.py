"""What a stored reference stands for: `$env:UPSTREAM_…` and `$file:/run/secrets/…`, read at use.

Nothing is kept. Called by inject.py, and by admin/probe.py for the same key.
"""

from __future__ import annotations

import os
from pathlib import Path

from gateway.shapes import Secret
from gateway.vault import is_reference


def resolved(reference: str) -> Secret:
    """The key behind it. Raises LookupError, which names the reference, for none or an empty one.

    A reference from elsewhere than the store is checked once more for where it points.
    """
    kind, _, name = reference.partition(":")
    try:
        if not is_reference(reference):
            raise KeyError
        text = (os.environ[name] if kind == "$env" else Path(name).read_text()).strip()
    except (OSError, KeyError, UnicodeDecodeError):
        text = ""
    if not text:
        raise LookupError(f"{reference} leads to no key")
    return Secret(text.encode())
