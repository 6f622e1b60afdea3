import subprocess
import sys
from pathlib import Path

import pytest
import typer
from patience import PATIENCE
from pydantic import ValidationError

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.explain import explain
from octavo_runtime.config.flags import engine_flags
from octavo_runtime.config.keywords import engine_config
from octavo_runtime.config.options import BadOption, with_options
from octavo_runtime.config.presets import PRESET_FIELDS, PRESETS
from octavo_runtime.config.server import ServerConfig
from octavo_runtime.config.units import parse_duration, parse_quantity


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
        ({"preset": "tiny"}, "preset: input should be 'small-gpu', 'large-gpu', 'throughput' or 'latency', got 'tiny'"),
        ({"preset": ["latency"]}, "preset: input should be 'small-gpu'"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size: input should be greater than or equal to 1, got 0"),
        ({"tensor_parallel_size": 4, "nnodes": 3}, "nnodes: must divide the 4 ranks of tensor_parallel_size, got 3"),
        ({"nnodes": 2}, "nnodes: must divide the 1 ranks of tensor_parallel_size, got 2"),
        ({"node_rank": 1}, "node_rank: must be less than nnodes, which is 1, got 1"),
        ({"master_port": 0}, "master_port: input should be greater than or equal to 1, got 0"),
        ({"swap_space": "much"}, "swap_space: string should match pattern"),
        ({"swap_space": "4"}, "swap_space: must be 0 or at least 1Mi, with its unit, such as 4Gi, got '4'"),
        ({"scheduling_policy": "lifo"}, "scheduling_policy: input should be 'fcfs' or 'priority', got 'lifo'"),
        ({"preemption_mode": "kill"}, "preemption_mode: input should be 'auto', 'recompute' or 'swap', got 'kill'"),
        ({"priority_aging": "soon"}, "priority_aging: string should match pattern"),
        ({"max_queue_len": 0}, "max_queue_len: input should be greater than or equal to 1, got 0"),
        ({"queue_timeout": "1 day"}, "queue_timeout: string should match pattern"),
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


def test_booleans_are_flags_of_their_own():
    flags = engine_flags({"logStats": True, "enable_prefix_caching": False})
    assert flags == ["--log-stats", "--no-enable-prefix-caching"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_defaults_and_what_is_set_wins(name):
    values = PRESETS[name].values
    config = EngineConfig(model="m", preset=name)
    assert {field: getattr(config, field) for field in values} == values
    untouched = set(EngineConfig.model_fields) - set(values) - {"model", "preset"}
    assert all(getattr(config, field) == EngineConfig.model_fields[field].default for field in untouched)
    assert EngineConfig(model="m", preset=name, max_num_seqs=64).max_num_seqs == 64
    assert EngineConfig.model_validate({"model": "m", "preset": name, "maxNumSeqs": 64}).max_num_seqs == 64


@pytest.mark.parametrize("name", [None, *PRESETS])
def test_a_configuration_survives_the_way_to_the_engine_process(name):
    config = EngineConfig(model="m", preset=name, max_num_seqs=9, trust_remote_code=True, queue_timeout="5s")
    assert EngineConfig.model_validate_json(config.model_dump_json()) == config


def test_presets_set_only_what_is_supported():
    assert set(EngineConfig.model_fields) >= PRESET_FIELDS
    assert not PRESET_FIELDS & {"model", "preset"}


@pytest.mark.parametrize("field", sorted(set(EngineConfig.model_fields) - {"model"}))
def test_every_description_states_its_default(field):
    description = EngineConfig.model_fields[field].description
    default = EngineConfig.model_fields[field].default
    assert "default" in description.lower()
    assert default is None or str(default).lower() in description.lower()


def _read_command_line(*arguments):
    """What `octavo COMMAND m ARGUMENTS` makes of its options."""

    @with_options(EngineConfig)
    def command(engine):
        return engine

    app = typer.Typer()
    app.command()(command)
    return app(["m", *arguments], standalone_mode=False)


def test_command_line_makes_the_configuration():
    config = _read_command_line("--preset", "latency", "--max-num-seqs", "8", "--no-enable-prefix-caching")
    expected = {"preset": "latency", "max_num_seqs": 8, "enable_prefix_caching": False}
    assert config == EngineConfig(model="m", **expected)
    assert _read_command_line("--enable-prefix-caching", "--trust-remote-code").trust_remote_code is True
    assert _read_command_line() == EngineConfig(model="m")


def test_flags_of_the_operator_come_back_as_the_same_configuration():
    options = {
        "maxModelLen": 512,
        "logStats": True,
        "enablePrefixCaching": False,
        "swapSpace": "2Gi",
        "preset": "latency",
    }
    config = _read_command_line(*engine_flags(options))
    assert config == EngineConfig.model_validate({"model": "m"} | options)


def test_command_line_refuses_in_one_line():
    with pytest.raises(BadOption, match="max_num_seqs: input should be greater than or equal to 1, got '0'"):
        _read_command_line("--max-num-seqs", "0")


def test_durations_and_quantities():
    assert [parse_duration(text) for text in ("500ms", "300s", "5m", "1h")] == [0.5, 300, 300, 3600]
    assert [parse_quantity(text) for text in ("7", "2Ki", "3M", "1Gi")] == [7, 2048, 3_000_000, 2**30]
    with pytest.raises(ValueError, match="must be a duration such as 500ms, 300s or 5m, got '3 days'"):
        parse_duration("3 days")
    with pytest.raises(ValidationError, match="pattern"):
        ServerConfig(drain="soon")


@pytest.mark.parametrize("digits", ["8761", "9" * 400, "9" * 5000])
def test_durations_and_quantities_beyond_all_use_are_refused(digits):
    """Timers and the arithmetic of memory overflow somewhere."""
    with pytest.raises(ValueError, match="must be at most 8760h, got '"):
        parse_duration(f"{digits}h")
    with pytest.raises(ValueError, match="must be at most 1048576Ti, got '"):
        parse_quantity(f"{digits}000Ti")
    with pytest.raises(ValidationError, match="at most 8760h"):
        EngineConfig(model="m", queue_timeout=f"{digits}h")
    assert (parse_duration("8760h"), parse_quantity("1048576Ti")) == (8760 * 3600, 2**60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "m", "--max-model-len", "3"], "max_model_len: input should be greater than or equal to 16, got '3'"),
        (["serve", "m", "--port", "70000"], "port: input should be less than or equal to 65535, got '70000'"),
        (["serve", "m", "--frobnicate"], "No such option: --frobnicate"),
        (
            ["serve", "m", "--quantization", "int3"],
            "quantization: input should be 'auto', 'none', 'fp8', 'int8', 'awq', 'gptq', 'compressed-tensors', "
            "'bitsandbytes', 'fbgemm_fp8', 'squeezellm', 'gguf' or 'mxfp4', got 'int3'",
        ),
        (["serve", "m", "--port", "81", "--metrics-port", "81"], "metrics_port: must be another one than port, got 81"),
        (["serve", "m", "--max-num-seqs", "-1"], "max_num_seqs: input should be greater than or equal to 1, got '-1'"),
        (["plan", "--model", "m", "--gpu", "l4", "--lengths", "0"], "model: must be a folder with a config.json"),
        (["serve"], "Missing argument 'model'"),
        (["serve", "builtin://nothing"], "builtin"),
        (["prepare", "/nowhere"], "/nowhere"),
        (["chat"], "model"),
        (
            ["quantize", "m", "--method", "awq", "--out", "o", "--samples", "0"],
            "samples: must be from 1 to 4096, got 0",
        ),
        (
            ["download", "hf://a/b", "--to", "o", "--progress-port", "0"],
            "progress_port: must be from 1 to 65535, got 0",
        ),
        (["serve", "m", "--drain", "9" * 400 + "h"], "drain: must be at most 8760h, got '999"),
        (["serve", "m", "--max-model-len", "9" * 400 + "k"], "max_model_len: input should be a valid integer"),
        (["serve", "m", "--host", ""], "host: string should have at least 1 character, got ''"),
        (["serve", "m", "--served-name", ""], "served_name.0: string should have at least 1 character, got ''"),
        (["serve", "~nobody-has-this-name/m", "--port", "0"], "~nobody-has-this-name/m does not exist"),
        (["plan", "~nobody-has-this-name/m", "--gpu", "l4"], "got '~nobody-has-this-name/m'"),
        (["describe", "a" * 300], "cannot be read: File name too long"),
        (["describe", "builtin://smollm2", "--output", "/"], "output: / cannot be written: Is a directory"),
        (["download", "hf://a/b", "--to", "/tmp", "--result", "/"], "result: / cannot be written: Is a directory"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_command_lines_end_with_one_line_and_exit_code_2(arguments, words):
    result = subprocess.run(
        [sys.executable, "-m", "octavo_runtime", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "octavo_runtime", "models"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (2, "octavo: No space left on device\n")


def test_where_nobody_can_be_told_the_exit_code_stays():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "octavo_runtime", "plan", "nonesuch", "--gpu", "l4"]
        assert subprocess.run(command, stdout=full, stderr=full, timeout=PATIENCE, check=False).returncode == 2


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, octavo_runtime, octavo_runtime.config.server, octavo_runtime.engine.scheduler, "
        "octavo_runtime.engine_process.client, octavo_runtime.models.loading.gguf_spec, "
        "octavo_runtime.planning.memory, octavo_runtime.planning.tables, octavo_runtime.text.chat_template; "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("ngram", "must be a JSON object such as"),
        ("[]", "must be a JSON object such as"),
        ('{"method": "eagle", "num_speculative_tokens": 4}', "method: input should be 'ngram', got 'eagle'"),
        ('{"method": "ngram"}', "num_speculative_tokens: field required"),
        ({"method": "ngram", "num_speculative_tokens": 65}, "less than or equal to 64, got 65"),
        ({"method": "ngram", "num_speculative_tokens": 4, "model": "small"}, "model: unknown field"),
        (
            {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 2, "prompt_lookup_min": 3},
            "prompt_lookup_min: must be at most prompt_lookup_max (2), got 3",
        ),
    ],
)
def test_a_speculation_that_is_none_is_refused(said, words):
    with pytest.raises(ValueError, match="speculative_config: ") as caught:
        engine_config("builtin://smollm2", speculative_config=said)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_length_of_the_lookup_stands_for_both():
    said = {"method": "ngram", "num_speculative_tokens": 4}

    def lookup(**given):
        found = engine_config("builtin://smollm2", speculative_config=said | given).speculation
        return found.prompt_lookup_max, found.prompt_lookup_min

    assert lookup() == (5, 5)
    assert lookup(prompt_lookup_max=3) == lookup(prompt_lookup_min=3, prompt_lookup_max=None) == (3, 3)
    assert lookup(prompt_lookup_max=4, prompt_lookup_min=2) == (4, 2)


def test_guesses_need_a_second_place_in_a_step():
    said = {"method": "ngram", "num_speculative_tokens": 4}
    with pytest.raises(ValueError, match=r"^speculative_config: needs max_num_seqs of at least 2, whose .*, got 1$"):
        engine_config("builtin://smollm2", speculative_config=said, max_num_seqs=1)
    assert engine_config("builtin://smollm2", speculative_config=said, max_num_seqs=2).speculation is not None
