"""The keys under which built programs are kept, and the Go version that builds them."""

from pathlib import Path

import binaries
import golang
import pytest


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> binaries.Module:
    monkeypatch.setattr(binaries, "HERE", tmp_path)
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "go.mod").write_text("require (\n\texample.com/tool v1.2.3 // indirect\n)\n")
    (tmp_path / "tool" / "go.sum").write_text("one\n")
    return binaries.Module("tool", source="example.com/tool", version_variables=("main.version",))


def test_the_key_is_stable(module: binaries.Module) -> None:
    assert binaries.key(module) == binaries.key(module)


@pytest.mark.parametrize("file", ["go.mod", "go.sum", "main.go"])
def test_every_file_counts_in_the_key(module: binaries.Module, file: str) -> None:
    before = binaries.key(module)
    (module.folder / file).write_text("require example.com/tool v1.2.4\n")
    assert binaries.key(module) != before


def test_programs_report_the_pinned_version(module: binaries.Module) -> None:
    assert binaries.linker_flags(module) == "-s -w -X=main.version=v1.2.3"


@pytest.mark.parametrize("module", binaries.MODULES, ids=lambda module: module.name)
def test_every_module_is_in_the_repository(module: binaries.Module) -> None:
    assert (module.folder / "go.mod").exists()
    assert binaries.linker_flags(module).startswith("-s -w")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("go version go1.26.4 linux/amd64", (1, 26, 4)),
        ("go version go1.27 linux/arm64", (1, 27)),
        ("go: command not found", ()),
    ],
)
def test_go_version(text: str, expected: tuple[int, ...]) -> None:
    assert golang.version(text) == expected


def test_an_old_or_missing_go_is_older_than_the_minimum() -> None:
    assert golang.version("go version go1.19.8 linux/amd64") < golang.MINIMUM <= golang.version("go1.27")
    assert golang.version("") < golang.MINIMUM


def test_the_fetched_toolchain_is_new_enough() -> None:
    fetched = golang.version(golang.TOOLCHAIN)
    assert fetched >= golang.MINIMUM
    for module in binaries.MODULES:
        words = (module.folder / "go.mod").read_text().split()
        assert golang.version(f"go{words[words.index('go') + 1]}") <= fetched
