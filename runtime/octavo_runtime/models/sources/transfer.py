"""One file from its source into a folder: resumed where a former try ended, and verified before it bears its name."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from octavo_runtime.models.loading.selection import ModelNotFound, kept_as
from octavo_runtime.models.sources.snapshot import Interrupted, RemoteFile

Answer = TypeVar("Answer")
Moved = Callable[[int], object]  # is told how many bytes came, or fewer than none where some are fetched again

PART = ".part"
# Seconds between tries that bring nothing; a source may ask for more, up to the longest.
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_LONGEST_PAUSE = 300.0
_BLOCK = 2**20
_log = logging.getLogger(__name__)


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What `ask` brings, tried again after pauses while it is Interrupted; the last Interrupted."""
    for pause in _PAUSES:
        try:
            return ask()
        except Interrupted as error:
            _rest(error, pause)
    return ask()


def _rest(error: Interrupted, pause: float) -> None:
    seconds = min(max(pause, error.wait or 0), _LONGEST_PAUSE)
    _log.warning("%s; tried again in %.0f s", error, seconds)
    time.sleep(seconds)


def fetch(file: RemoteFile, folder: Path, moved: Moved) -> Path:
    """The file in the `folder` of its model. Raises ModelNotFound, Interrupted and OSError."""
    path = folder / kept_as(file.name)
    if path.is_file():
        return path
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(path.name + PART)
    resumed = part.exists()
    _bring(file, part, moved)
    if (trouble := _trouble(file, part)) and resumed:
        # What a former try left may be of another content: once more, from the start.
        moved(-part.stat().st_size)
        part.unlink()
        _bring(file, part, moved)
        trouble = _trouble(file, part)
    if trouble:
        part.unlink()
        raise ModelNotFound(f"model: {file.name} is not what was published: {trouble}")
    part.rename(path)
    return path


def _bring(file: RemoteFile, part: Path, moved: Moved) -> None:
    """Append what is missing. Tries that bring something are not counted."""
    in_vain = 0
    while True:
        had = part.stat().st_size if part.exists() else 0
        if had >= file.size and part.exists():
            return
        try:
            _append(file, part, had, moved)
        except Interrupted as error:
            in_vain = 0 if part.exists() and part.stat().st_size > had else in_vain + 1
            if in_vain > len(_PAUSES):
                raise
            _rest(error, _PAUSES[max(in_vain - 1, 0)])


def _append(file: RemoteFile, part: Path, had: int, moved: Moved) -> None:
    with file.read(had) as content, part.open("ab") as out:
        if content.start != had:
            out.truncate(content.start)
            moved(content.start - had)
        for chunk in content.chunks:
            out.write(chunk)
            moved(len(chunk))
            if out.tell() > file.size:
                break  # more than was announced: the check says so
        out.flush()
        os.fsync(out.fileno())
    if part.stat().st_size < file.size:
        raise Interrupted(f"{file.name} broke off at byte {part.stat().st_size} of {file.size}")


def _trouble(file: RemoteFile, part: Path) -> str | None:
    """How what came differs from what the source says."""
    size, digest = part.stat().st_size, file.digest
    if size != file.size:
        return f"it has {size} bytes, and the source says {file.size}"
    if digest is None:
        return None
    hashed = digest.begin(size)
    with part.open("rb") as content:
        while block := content.read(_BLOCK):
            hashed.update(block)
    if hashed.hexdigest() != digest.value:
        return f"its {digest.algorithm} hash is {hashed.hexdigest()}, and the source says {digest.value}"
    return None
