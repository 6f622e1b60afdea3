"""A whole model from its source into a folder of its own: ROOT/SOURCE/REVISION/NAME.

Files come into NAME.partial, which takes its name once all are there and verified: a reader never sees half a model. A
second call finds the folder; two at once take turns, by a lock on a file beside it."""

import errno
import fcntl
import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from octavo_runtime.models.loading.files import default_name
from octavo_runtime.models.loading.safetensors_files import INDEX
from octavo_runtime.models.loading.selection import ModelNotFound, beside_weights, is_gguf, kept_as, matching, weights
from octavo_runtime.models.sources.archives import unpack
from octavo_runtime.models.sources.progress import Progress, gib
from octavo_runtime.models.sources.snapshot import RemoteFile, Snapshot
from octavo_runtime.models.sources.transfer import PART, fetch, patiently

_AT_ONCE = 4
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Downloaded:
    """`revision`: what the source's was resolved to; `size`: in bytes."""

    revision: str
    folder: Path
    size: int


class NoRoom(ModelNotFound):
    """The disk is too small."""


def download(
    model: str, root: Path, progress: Progress | None = None, check: Callable[[Path], object] = lambda _: None
) -> Downloaded:
    """Bring a model of hf://, s3:// or oci:// below `root`. check: of a folder with the files beside the weights,
    config.json among them, before the weights come; not of archives, nor of GGUF files, which say themselves what model
    they are. Raises ModelNotFound for what a person must mend, Interrupted where the source does not answer, and what
    `check` raises."""
    found = patiently(lambda: _snapshot(model))
    source = root / _key(model)
    folder = source / found.revision / default_name(model)
    try:
        source.mkdir(parents=True, exist_ok=True)
        with _alone(source / ".lock"):
            if not folder.is_dir():
                _fill(model, found, folder, progress or Progress(), check)
    except OSError as error:
        raise ModelNotFound(f"model: {model} cannot be stored in {root}: {error.strerror or error}") from None
    return Downloaded(found.revision, folder, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def fetch_headers(model: str, folder: Path) -> Path | None:
    """Bring the headers of the GGUF files that serving would download into a folder, and return the first; None where
    it would download no such files. Raises ModelNotFound, of which Offline, and Interrupted."""
    found = patiently(lambda: _snapshot(model))
    names = list(found.files)
    if found.file is None and not is_gguf(names):
        return None
    # Imported here: it takes some tenths of a second, which other models need not pay.
    from octavo_runtime.models.sources.gguf_headers import fetch_header

    parts = weights(model, names, found.file, lambda: folder)
    try:
        fetched = [fetch_header(found.files[name], folder) for name in parts]
    except OSError as error:
        raise ModelNotFound(f"model: {model} cannot be stored in {folder}: {error.strerror or error}") from None
    return fetched[0]


def read_ahead(model: str, root: Path, patterns: Sequence[str]) -> Path:
    """Bring small files alone, of the source's first folder, and return the folder they are in. As `download`."""
    found = patiently(lambda: _snapshot(model))
    folder = root / _key(model) / found.revision / "ahead"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in matching((name for name in found.files if "/" not in name), patterns):
            fetch(found.files[name], folder, lambda _: None)
    except OSError as error:
        raise ModelNotFound(f"model: {model} cannot be stored in {root}: {error.strerror or error}") from None
    return folder


def _snapshot(model: str) -> Snapshot:
    # Each is imported where it is asked for: their libraries take their time.
    if model.startswith("hf://"):
        from octavo_runtime.models.sources import hub

        return hub.snapshot(model)
    if model.startswith("s3://"):
        from octavo_runtime.models.sources import s3

        return s3.snapshot(model)
    if model.startswith("oci://"):
        from octavo_runtime.models.sources import oci

        return oci.snapshot(model)
    forms = "hf://OWNER/NAME, s3://BUCKET/PREFIX or oci://REGISTRY/NAME:TAG"
    raise ModelNotFound(f"model: what is downloaded is {forms}, got {model!r}")


def _key(model: str) -> str:
    """A folder's name for a source: words for people, and a digest that tells apart what the words do not."""
    # The same hub's or registry's model at another revision is another folder below.
    address = (model if model.startswith("s3://") else model.partition("@")[0]).rstrip("/")
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", address.replace("://", "-")).strip("-")[:80]
    return f"{words}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock, as long as it takes another to let go of it; a process that dies does."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("another process downloads this model; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fill(model: str, found: Snapshot, folder: Path, progress: Progress, check: Callable[[Path], object]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    wanted = _wanted(model, found, partial)
    _check_room(model, wanted, partial)
    total = sum(file.size for file in wanted.values())
    progress.expect(total, total - _missing(wanted, partial))
    pool = ThreadPoolExecutor(_AT_ONCE)
    first = {} if found.archives else {name: wanted[name] for name in beside_weights(wanted)}
    rest = [file for name, file in wanted.items() if name not in first]
    is_told_beside = "config.json" in first and not any(name.endswith(".gguf") for name in wanted)
    try:
        for files in (list(first.values()), rest):
            for done in [pool.submit(fetch, file, partial, progress.moved) for file in files]:
                done.result()
            if files is not rest and is_told_beside:
                check(partial)
        archives = [partial / file.name for file in found.archives]
        kept = unpack(model, archives, partial) if archives else [kept_as(name) for name in wanted]
    except OSError as error:
        if error.errno in _FULL:
            raise NoRoom(f"model: {_room(model, wanted, partial)}") from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    # What a former try brought that is not wanted any more is no part of the model.
    for path in partial.iterdir():
        if path.is_dir() and not any(name.startswith(f"{path.name}/") for name in kept):
            shutil.rmtree(path)
        elif path.is_file() and path.name not in kept:
            path.unlink()
    partial.rename(folder)
    progress.say()


def _wanted(model: str, found: Snapshot, partial: Path) -> dict[str, RemoteFile]:
    """The files to fetch, by name. Of archives all: what is in them is seen once they are here."""
    if found.archives:
        return dict(found.files) | {file.name: file for file in found.archives}
    names = list(found.files)
    heavy = weights(model, names, found.file, lambda: fetch(found.files[INDEX], partial, lambda _: None))
    # A file in a folder of its own is apart from the tokenizer of the repository's first.
    beside = [] if found.file and "/" in found.file else beside_weights(names)
    return {name: found.files[name] for name in dict.fromkeys((*heavy, *beside))}


def _check_room(model: str, wanted: Mapping[str, RemoteFile], partial: Path) -> None:
    if _missing(wanted, partial) > shutil.disk_usage(partial).free:
        raise NoRoom(f"model: {_room(model, wanted, partial)}")


def _room(model: str, wanted: Mapping[str, RemoteFile], partial: Path) -> str:
    free, missing = shutil.disk_usage(partial).free, _missing(wanted, partial)
    return f"no room for {model}: {gib(missing)} are still to come, and {gib(free)} are free in {partial.parent}"


def _missing(wanted: Mapping[str, RemoteFile], partial: Path) -> int:
    """Bytes that are not there yet."""
    names = [kept_as(name) for name in wanted]
    there = [partial / name for name in names] + [partial / (name + PART) for name in names]
    return sum(file.size for file in wanted.values()) - sum(path.stat().st_size for path in there if path.exists())
