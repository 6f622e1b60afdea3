"""Decoders of structs are made where their module is imported: msgspec describes a struct at its first use, and two
threads that are both the first end the process (seen in 0.22: the second follows a pointer that is not set yet)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import octavo_runtime

PACKAGE = Path(octavo_runtime.__file__).parent

# Every time anew: a reload makes new structs, which nobody has used.
TWO_FIRST_READERS = """
import importlib, json, pathlib, sys, threading
from octavo_runtime.models.loading import end_tokens

folder = pathlib.Path(sys.argv[1])
(folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
(folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"id": 7, "content": "</s>"}]}))
sys.setswitchinterval(1e-6)
found = []
for _ in range(1000):
    importlib.reload(end_tokens)
    together = threading.Barrier(2)

    def read():
        together.wait()
        found.append(end_tokens.folder_end_tokens(folder))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert found == [(7,)] * 2000
"""


def lazy(tree: ast.Module) -> Iterator[int]:
    """The lines inside of functions that read a struct with no decoder, or make one."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            types = [word.value for word in call.keywords if word.arg == "type"]
            if call.func.attr == "Decoder" or (call.func.attr == "decode" and any(map(_may_be_struct, types))):
                yield call.lineno


def _may_be_struct(type_: ast.expr) -> bool:
    return isinstance(type_, ast.Name) and type_.id != "Json"


def test_two_threads_read_tokenizers_at_once(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TWO_FIRST_READERS, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_struct_is_read_without_a_decoder():
    found = {
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.rglob("*.py")
        for line in lazy(ast.parse(path.read_text()))
    }
    assert found == set()
