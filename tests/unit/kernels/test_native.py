"""The compiled loops: for every kind of CPU, and where they come from."""

import shutil
import subprocess
from pathlib import Path

import pytest
from compilations import output

from octavo_kernels import native
from octavo_kernels.native import compilation

_OPS = ("add_rms_norm", "gate_mul", "quantized_linear", "paged_decode", "recording", "rms_norm", "rotary_write_kv",
        "wide_linear", "write_kv")  # fmt: skip
_CAPABILITIES = {"default": "x86-64", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}


@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_lesser_cpus_compute_the_same(capability: str) -> None:
    """All ops' loops as they are compiled for CPUs that lack what this one has."""
    if native.level() not in _CAPABILITIES.values():
        pytest.skip("this is no x86 CPU")
    if compilation.LEVELS.index(_CAPABILITIES[capability]) <= compilation.LEVELS.index(native.level()):
        pytest.skip("the other tests run at this CPU's own level")
    reads = [Path(__file__).with_name(name) for name in ("conftest.py", *(f"test_{op}.py" for op in _OPS))]
    output("lesser_cpu.py", *_OPS, reads=reads, ATEN_CPU_CAPABILITY=capability)


def test_a_library_is_known_by_what_it_is_compiled_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({compilation.digest(level) for level in compilation.LEVELS}) == len(compilation.LEVELS)
    before = compilation.digest(compilation.LEVELS[0])
    monkeypatch.setattr(compilation, "_FLAGS", [*compilation._FLAGS, "-g"])
    assert compilation.digest(compilation.LEVELS[0]) != before


def test_a_library_is_known_by_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the text of each file that is compiled, and of no other."""
    compiled = _compiled_files()
    kernels = tmp_path / "kernels"
    shutil.copytree(compilation._FOLDER.parent, kernels)
    monkeypatch.setattr(compilation, "_FOLDER", kernels / "native")
    monkeypatch.setattr(compilation, "_MAIN", kernels / "native" / "exports.cpp")
    level = compilation.LEVELS[0]
    known = compilation.digest(level)
    for path in filter(Path.is_file, kernels.rglob("*")):
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        assert (compilation.digest(level) != known) == (path.relative_to(kernels) in compiled), path
        path.write_bytes(before)


def _compiled_files() -> set[Path]:
    """exports.cpp and all that it includes, from the folder of the kernels on, as the compiler finds them."""
    kernels = compilation._FOLDER.parent
    command = ["c++", *compilation._FLAGS, "-MM", str(compilation._MAIN)]
    rule = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = rule.replace("\\\n", " ").partition(":")[2].split()
    return {Path(name).resolve().relative_to(kernels.resolve()) for name in names}


def test_a_machine_without_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(compilation.NoCompiler, match="apt-get install g"):
        compilation.build(compilation.LEVELS[-1], tmp_path / "loops.so")


def test_a_compiler_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(compilation.NoCompiler, match="false cannot compile"):
        compilation.build(compilation.LEVELS[-1], tmp_path / "loops.so")
    assert not list(tmp_path.iterdir())


def test_loops_are_compiled_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a compiler that copies the loops as they are."""
    known, compiler = native._library(native.level())._name, tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nfor last; do :; done\ncp {known} "$last"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("OCTAVO_CACHE", str(compiler))  # a file, in which no folder can be
    library = native._library.__wrapped__(native.level())
    assert library._name != known
    assert library.octavo_lanes() in (4, 8, 16)
