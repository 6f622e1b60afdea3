"""`octavo download`: brings a model below a folder, and says what came of it to people, and to the operator."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octavo_runtime.config.options import BadOption
from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.files import hub_uri
from octavo_runtime.models.loading.selection import ModelNotFound
from octavo_runtime.models.sources.download import NoRoom, download
from octavo_runtime.models.sources.progress import Progress, answering
from octavo_runtime.models.sources.snapshot import Interrupted
from octavo_runtime.models.spec import UnsupportedModel

_LONGEST_RESULT = 4096  # bytes; Kubernetes keeps no more of a termination message


def run(model: str, root: Path, result: Path | None, progress_port: int | None) -> int:
    """Prints the folder. Exit code 1 where the source does not answer; UnsupportedModel, before the weights come, where
    config.json says that the model cannot be served; BadOption where `result` cannot be written. `result`: a file for
    what came of it, as JSON: `revision`, `folder` below root, `size` in bytes and `description` (see
    planning.description); or `problem`, and `full` where the disk is. `progress_port`: see sources.progress."""
    logging.basicConfig(format="%(message)s")  # to stderr: stdout is the folder alone
    log = logging.getLogger("octavo_runtime")
    log.setLevel(logging.INFO)
    model = hub_uri(model) or model  # no folder can be meant
    progress = Progress()
    log.addHandler(progress)
    try:
        with _writable(result), answering(progress, progress_port):
            done = download(model, root, progress, spec_from_folder)
    except (Interrupted, ModelNotFound, UnsupportedModel) as error:
        _write(result, {"problem": str(error)} | ({"full": True} if isinstance(error, NoRoom) else {}))
        if not isinstance(error, Interrupted):
            raise
        print(f"octavo: {error}", file=sys.stderr)
        return 1
    finally:
        log.removeHandler(progress)
    if result is not None:
        where = done.folder.relative_to(root).as_posix()
        _write(result, {"revision": done.revision, "folder": where, "size": done.size} | _described(done.folder))
    print(done.folder)
    return 0


def _described(folder: Path) -> dict[str, str]:
    from octavo_runtime.planning.known_models import describe

    try:
        return {"description": describe(str(folder))}
    except ModelNotFound:
        return {}  # whoever loads it says why


@contextmanager
def _writable(result: Path | None) -> Iterator[None]:
    """Refuses a file that cannot be written, before what may take hours; what ends that leaves none that was not there
    before."""
    if result is None:
        yield
        return
    is_new = not result.exists()
    try:
        result.open("a").close()
    except OSError as error:
        raise BadOption(f"result: {result} cannot be written: {error.strerror}") from None
    try:
        yield
    except BaseException:
        if is_new:
            result.unlink(missing_ok=True)
        raise


def _write(result: Path | None, content: dict[str, Any]) -> None:
    if result is None:
        return
    text = json.dumps(content)
    if len(text) > _LONGEST_RESULT:
        text = json.dumps({key: value for key, value in content.items() if key != "description"})
    result.write_text(text)
