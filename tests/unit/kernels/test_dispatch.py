"""The public functions pick the form that fits their tensors' device."""

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

import octavo_kernels


@pytest.mark.parametrize("op", octavo_kernels.__all__)
def test_cpu_tensors(op: str) -> None:
    cases = import_module(f"octavo_kernels.{op}.cases")
    for case in cases.TINY_CASES:
        assert cases.error(getattr(octavo_kernels, op), case, torch.float32, "cpu") <= cases.TOLERANCES[torch.float32]


@pytest.mark.parametrize("op", ["paged_decode", "paged_prefill", "rms_norm", "gate_mul"])
def test_result_is_allocated_without_out(op: str) -> None:
    def without_out(*arguments: Any, **options: Any) -> Tensor:
        *inputs, out = arguments
        filled: Tensor = out.copy_(getattr(octavo_kernels, op)(*inputs, **options))
        return filled

    cases = import_module(f"octavo_kernels.{op}.cases")
    for case in cases.TINY_CASES:
        assert cases.error(without_out, case, torch.float32, "cpu") <= cases.TOLERANCES[torch.float32]


def test_cpu_tensors_import_no_triton() -> None:
    program = """
import sys, torch, octavo_kernels
octavo_kernels.gate_mul(torch.zeros(1, 8), "silu")
sys.exit("triton" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
