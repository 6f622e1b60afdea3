"""Every Triton kernel compiles for the GPUs of each generation and fits into them; no GPU is needed to find out."""

import json

import pytest
from compilations import output

import octavo_kernels

# Bytes that a program may use: A100, L4, H100, B200.
SHARED_MEMORY = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10}


@pytest.mark.parametrize(
    "capability", [pytest.param(80, marks=pytest.mark.slow), 89, 90, pytest.param(100, marks=pytest.mark.slow)]
)
def test_compile(capability: int) -> None:
    selections = ["bfloat16/8B shape", "bfloat16/Gemma 2 shape", "float32/smollm2", "float16/head of 80"]
    selections += ["bfloat16/BLOOM shape", "bfloat16/DeepSeek V3 shape", "float32/MiniCPM 3 shape"]
    lines = output("compile_for.py", str(capability), *selections).splitlines()
    variants = [json.loads(line) for line in lines]
    gpus = {"peer_sum", "skinny_linear", "gated_linear"} if capability == 90 else {"peer_sum"}
    assert {variant["op"] for variant in variants} == set(octavo_kernels.__all__) | gpus
    assert [variant for variant in variants if variant["shared"] > SHARED_MEMORY[capability]] == []
