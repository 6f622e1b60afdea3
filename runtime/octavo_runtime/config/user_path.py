"""Paths as people name them."""

from pathlib import Path


def user_path(text: str) -> Path:
    """The path of a file or a folder, `~` being a home folder. Where nobody has such a home it stays as it is, so that
    it is no file's."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path
