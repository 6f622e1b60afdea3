"""Program: the tests of these ops, but for those of GPUs, in a process whose compiled loops are those of the CPU that
ATEN_CPU_CAPABILITY names."""

import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

tests = [str(Path(__file__).with_name(f"test_{op}.py")) for op in sys.argv[1:]]
with redirect_stdout(sys.stderr):
    code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-k", "not triton and not hopper", *tests])
sys.exit(code)
