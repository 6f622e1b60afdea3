"""From the tokenizer inside a GGUF file, or from a folder's own Python code where that is trusted, to the files that
`tokenizers` reads. Converting takes some seconds, so it is done once: the result lies beside the GGUF file (`octavo
prepare`) or in the cache."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.loading.files import ModelFiles, locate
from octavo_runtime.models.loading.selection import TOKENIZER_PATTERNS
from octavo_runtime.text.tokenizer_files import TokenizerUnavailable, read_if_there
from octavo_runtime.text.tokenizer_gguf import VERSION, VERSION_KEY, convert

_HEADER_BYTES = 8 * 2**20
_CODE_SUFFIXES = (".py", ".json", ".jinja", ".model", ".txt", ".tiktoken")
_FIRST_VERSION = {"bos_token", "eos_token", "unk_token", "pad_token", "chat_template"}  # the keys that it wrote
_WRITTEN = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def tokenizer_files(config: EngineConfig, model: ModelFiles) -> ModelFiles:
    """The files to read tokenizer and chat template from: those that `config.tokenizer` names, else the model's. A
    folder without tokenizer.json gets one from its own code where `config.trust_remote_code` allows that; else nothing
    of it is executed. Raises ModelNotFound or TokenizerUnavailable."""
    files = locate(config.tokenizer, only=TOKENIZER_PATTERNS) if config.tokenizer else model
    if files.gguf is not None or (files.folder / "tokenizer.json").is_file():
        return files
    if not config.trust_remote_code:
        raise TokenizerUnavailable(
            f"{files.name}: no tokenizer.json in {files.folder}; name another tokenizer, or let the model's own code "
            "make one with trust_remote_code"
        )
    folder = locate(config.tokenizer or config.model, only=[*TOKENIZER_PATTERNS, "*.py"]).folder
    return ModelFiles(files.name, _converted(folder, _code_key(folder)), None)


def tokenizer_folder(files: ModelFiles) -> Path:
    """The folder with the model's tokenizer.json, chat template and end-of-sequence tokens. The tokenizer of a GGUF
    file is converted on first use, into $OCTAVO_CACHE (~/.cache/octavo by default)."""
    if files.gguf is None or _lies_in(files.folder):
        return files.folder
    return _converted(files.gguf, _key(files.gguf))


def prepare(files: ModelFiles) -> Path:
    """Writes a GGUF file's tokenizer beside it, so that no start converts it again. Returns the folder it is in."""
    if files.gguf is not None and not _lies_in(files.folder):
        converted = tokenizer_folder(files)
        # tokenizer.json last: it marks the rest as complete.
        for name in reversed(_WRITTEN):
            shutil.copyfile(converted / name, files.folder / f".{name}.part")
            (files.folder / f".{name}.part").replace(files.folder / name)
    return files.folder


def _lies_in(folder: Path) -> bool:
    """Whether a tokenizer lies beside a GGUF file, other than one that an older version of this module put there."""
    if not (folder / "tokenizer.json").is_file():
        return False
    config = read_if_there(folder / "tokenizer_config.json")
    return config.get(VERSION_KEY, VERSION) == VERSION and config.keys() != _FIRST_VERSION


def convert_code(source: Path, folder: Path) -> None:
    """Writes the same files from a model folder whose tokenizer is made by its own Python code, which this runs."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=True)
    if not tokenizer.is_fast:
        sys.exit(f"{type(tokenizer).__name__} works in Python alone, and has no form for the tokenizers library")
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    names = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    config = names | {"chat_template": tokenizer.chat_template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    ends = None
    for name in ("config.json", "generation_config.json"):
        if (source / name).is_file():
            ends = json.loads((source / name).read_text()).get("eos_token_id", ends)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))


def _converted(source: Path, key: str) -> Path:
    """The folder in the cache with the converted tokenizer of a GGUF file or of a folder with code."""
    folder = _cache() / "tokenizers" / key
    if not (folder / "tokenizer.json").is_file():
        print(f"octavo: converting the tokenizer of {source.name}, once; it takes some seconds", file=sys.stderr)
        _convert_aside(source, folder)
    return folder


def _convert_aside(source: Path, folder: Path) -> None:
    """Converts in a process of its own, so that this one never imports transformers; the folder appears complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        result = subprocess.run(
            [sys.executable, "-m", "octavo_runtime.text.tokenizer_conversion", str(source), work],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
            raise TokenizerUnavailable(f"{source}: its tokenizer cannot be converted: {lines[-1]}")
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        for name in _WRITTEN:
            (Path(work) / name).rename(made / name)
    try:
        made.rename(folder)
    except OSError:  # another process was faster
        shutil.rmtree(made)


def _cache() -> Path:
    return Path(os.environ.get("OCTAVO_CACHE") or Path.home() / ".cache" / "octavo")


def _key(gguf: Path) -> str:
    """The identity of a GGUF file: its size and the start, which holds the metadata."""
    with gguf.open("rb") as file:
        digest = hashlib.sha256(file.read(_HEADER_BYTES))
    digest.update(f"{gguf.stat().st_size} {VERSION}".encode())
    return digest.hexdigest()[:24]


def _code_key(folder: Path) -> str:
    """The identity of a folder's tokenizer: its code, and the texts that the code may read."""
    digest = hashlib.sha256(f"code {VERSION}".encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _CODE_SUFFIXES:
            digest.update(f"\n{path.relative_to(folder)} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


if __name__ == "__main__":
    given = Path(sys.argv[1])
    try:
        (convert_code if given.is_dir() else convert)(given, Path(sys.argv[2]))
    except ValueError as refusal:
        sys.exit(str(refusal))
