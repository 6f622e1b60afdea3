import subprocess
import sys

import pytest
from pydantic import ValidationError

from octavo_runtime.config import EngineConfig, ServerConfig, engine_flags, explain, parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_model_len": 3}, "max_model_len: input should be greater than or equal to 16, got 3"),
        ({"block_size": 24}, "block_size: must be a power of two, got 24"),
        ({"block_size": 4}, "block_size: input should be greater than or equal to 8, got 4"),
        ({"dtype": "int3"}, "dtype: input should be 'auto', 'float32', 'bfloat16' or 'float16', got 'int3'"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization: input should be less than or equal to 1, got 1.5"),
        ({"kv_cache_memory": "4GB"}, "kv_cache_memory: string should match pattern"),
        ({"max_num_seqs": "many"}, "max_num_seqs: input should be a valid integer"),
        ({"blocksize": 16}, "blocksize: unknown field"),
    ],
)
def test_bad_values_are_explained_in_one_line(fields, words):
    with pytest.raises(ValidationError) as caught:
        EngineConfig(model="m", **fields)
    assert words in explain(caught.value)
    assert "\n" not in explain(caught.value)


def test_flags_take_both_names_and_leave_out_what_is_unset():
    flags = engine_flags({"maxModelLen": 512, "kv_cache_memory": "2Gi", "blockSize": None})
    assert flags == ["--max-model-len", "512", "--kv-cache-memory", "2Gi"]


def test_durations_and_quantities():
    assert [parse_duration(text) for text in ("500ms", "300s", "5m", "1h")] == [0.5, 300, 300, 3600]
    assert [parse_quantity(text) for text in ("7", "2Ki", "3M", "1Gi")] == [7, 2048, 3_000_000, 2**30]
    with pytest.raises(ValueError, match="must be a duration such as 500ms, 300s or 5m, got '3 days'"):
        parse_duration("3 days")
    with pytest.raises(ValidationError, match="pattern"):
        ServerConfig(drain="soon")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "m", "--max-model-len", "3"], "max_model_len: input should be greater than or equal to 16, got '3'"),
        (["serve", "m", "--port", "70000"], "port: input should be less than or equal to 65535, got '70000'"),
        (["serve", "m", "--frobnicate"], "No such option: --frobnicate"),
        (["serve"], "Missing argument 'model'"),
        (["serve", "builtin://nothing"], "builtin"),
        (["prepare", "/nowhere"], "/nowhere"),
        (["chat"], "model"),
    ],
)
def test_bad_command_lines_end_with_one_line_and_exit_code_2(arguments, words):
    result = subprocess.run(
        [sys.executable, "-m", "octavo_runtime", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, octavo_runtime, octavo_runtime.config, octavo_runtime.plan, octavo_runtime.scheduler, "
        "octavo_runtime.engine_client, octavo_runtime.tokenizer, octavo_runtime.chat_template; "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
