"""What is kept of the kernels' programs is what they print, and no longer than it holds."""

from pathlib import Path

import compilations
import pytest

COUNTING = """
import sys
from pathlib import Path
runs = Path(sys.argv[1])
runs.write_text(runs.read_text() + "x")
assert len(sys.argv) == 2, "told to fail"
print(len(runs.read_text()))
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that counts its runs in a file, in the place of the kernels' own."""
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path))
    monkeypatch.delenv("OCTAVO_SOAK", raising=False)
    monkeypatch.setattr(compilations, "__file__", str(tmp_path / "compilations.py"))
    (tmp_path / "count.py").write_text(COUNTING)
    counted = tmp_path / "runs"
    counted.write_text("")
    return counted


def test_a_program_runs_once_until_what_it_depends_on_changes(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [compilations.output("count.py", str(runs)) for _ in range(2)] == ["1\n", "1\n"]
    assert compilations.output("count.py", str(runs), VARIABLE="other") == "2\n"
    program = runs.with_name("count.py")
    program.write_text(program.read_text() + "# changed\n")
    assert compilations.output("count.py", str(runs)) == "3\n"
    monkeypatch.setattr(compilations, "version", lambda package: "another")
    assert compilations.output("count.py", str(runs)) == "4\n"
    monkeypatch.setenv("OCTAVO_SOAK", "1")
    assert compilations.output("count.py", str(runs)) == "5\n"


def test_a_kernel_that_changes_is_compiled_anew(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = tmp_path / "octavo_kernels"
    kernels.mkdir()
    (kernels / "__init__.py").write_text("")
    monkeypatch.setattr(compilations.octavo_kernels, "__file__", str(kernels / "__init__.py"))
    assert compilations.output("count.py", str(runs)) == "1\n"
    (kernels / "triton.py").write_text("x = 1\n")
    assert compilations.output("count.py", str(runs)) == "2\n"


def test_a_failure_is_told_each_time(runs: Path) -> None:
    for _ in range(2):
        with pytest.raises(AssertionError, match="told to fail"):
            compilations.output("count.py", str(runs), "fail")
    assert runs.read_text() == "xx"
