"""Files that are read again when they change."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class WatchedFiles:
    """Calls `load` now, and again when one of `paths` changes: files, or folders of files. `load` raises ValueError, in
    one line, where it cannot use what it finds; only the first time does that reach the caller."""

    def __init__(self, paths: Sequence[Path], load: Callable[[], None]) -> None:
        self._paths = paths
        self._load = load
        self._seen = self._look()
        load()

    async def watch(self) -> None:
        """Looks once a second, until it is cancelled. Where a change is of no use, the log says so and all stays as it
        was."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            seen = self._look()
            if seen == self._seen:
                continue
            self._seen = seen
            try:
                self._load()
            except ValueError as error:
                _log.error("a change is not taken over: %s", error)

    def _look(self) -> list[tuple[str, int, int, int]]:
        """What tells one content from another: of each file its path, inode, size and time of change. Links are
        followed: Kubernetes changes a mounted Secret by turning a link."""
        seen = []
        with contextlib.suppress(OSError):  # gone in between: seen in the next look
            for file in self._files():
                status = file.stat()
                seen.append((str(file), status.st_ino, status.st_size, status.st_mtime_ns))
        return seen

    def _files(self) -> Iterator[Path]:
        for path in self._paths:
            yield path
            if path.is_dir():
                yield from folder_files(path)


def folder_files(folder: Path) -> list[Path]:
    """The files in a folder by name, but hidden ones: those are the links of a mounted Secret."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
