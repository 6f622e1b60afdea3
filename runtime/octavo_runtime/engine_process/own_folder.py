"""A folder for what the processes of one server share: it goes with the process that made it, or, where that was
killed, as soon as another one makes its own."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NEW, _LOCKED = "octavo-new-", "octavo-own-"


@contextmanager
def own_folder() -> Iterator[Path]:
    """A new one, which is removed at the end; before it, what this user's processes left that were killed."""
    _remove_left()
    new = Path(tempfile.mkdtemp(prefix=_NEW))
    lock = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # on a file system without locks nothing is ever taken for left
            fcntl.flock(lock, fcntl.LOCK_EX)
        folder = new.rename(new.with_name(new.name.replace(_NEW, _LOCKED)))  # others look at it from now on
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _remove_left() -> None:
    """Linux frees the locks of the dead alone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_LOCKED}????????"):  # as mkdtemp names them
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.geteuid():
                    shutil.rmtree(folder)
            finally:
                os.close(lock)
