"""Where what can be computed again is kept."""

import os
from pathlib import Path

__all__ = ["default_cache_directory"]


def default_cache_directory() -> Path:
    """``$XDG_CACHE_HOME/svdraw``, or ``~/.cache/svdraw``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "svdraw"
