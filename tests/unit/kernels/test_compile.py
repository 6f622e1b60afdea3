"""Every Triton kernel compiles for the GPUs of each generation and fits into them; no GPU is needed to find out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import octavo_kernels

# Bytes that a program may use: A100, L4, H100, B200.
SHARED_MEMORY = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10}


@pytest.mark.parametrize(
    "capability", [pytest.param(80, marks=pytest.mark.slow), 89, 90, pytest.param(100, marks=pytest.mark.slow)]
)
def test_compile(capability: int) -> None:
    program = Path(__file__).with_name("compile_for.py")
    selections = ["bfloat16/8B shape", "bfloat16/Gemma 2 shape", "float32/smollm2", "float16/head of 80"]
    command = [sys.executable, program, str(capability), *selections]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    variants = [json.loads(line) for line in run.stdout.splitlines()]
    hopper = {"skinny_linear"} if capability == 90 else set()
    assert {variant["op"] for variant in variants} == set(octavo_kernels.__all__) | hopper
    assert [variant for variant in variants if variant["shared"] > SHARED_MEMORY[capability]] == []
