"""Whether a file is there: also where the answer is that nobody may know.

Never opens or makes anything. Called by whoever would make a file that is missing.
"""

from __future__ import annotations

from pathlib import Path

from gateway.errors import StartRefused


def missing(path: Path) -> bool:
    """Raises StartRefused for somebody else's folder: what is made beside it would be another."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        raise StartRefused(
            f"{path} cannot be looked at: {error.strerror}; run this as the user it belongs to"
        ) from None
    return False
