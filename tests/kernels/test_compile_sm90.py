"""Every Triton kernel compiles for an H100 and fits into it; no GPU is needed to find out."""

import json
import subprocess
import sys
from pathlib import Path

import octavo_kernels

SHARED_MEMORY = 227 << 10  # bytes that a program may use


def test_compile() -> None:
    program = Path(__file__).with_name("compile_sm90.py")
    selections = ["bfloat16/8B shape", "float32/smollm2", "float16/head of 80"]
    run = subprocess.run([sys.executable, program, *selections], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    variants = [json.loads(line) for line in run.stdout.splitlines()]
    assert {variant["op"] for variant in variants} == set(octavo_kernels.__all__)
    assert [variant for variant in variants if variant["shared"] > SHARED_MEMORY] == []
