"""What the planner says of every family's weights and KV cache, against what is there once it is loaded."""

import pytest
import torch
from family_models import FAMILIES, save
from small_models import load_decoder, random_prompts

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.planning.memory import plan_memory
from octavo_runtime.planning.parameters import parameter_count, weight_bytes
from octavo_runtime.protocol.sampling_params import SamplingParams


@pytest.mark.parametrize("family", FAMILIES)
def test_every_byte_of_the_weights_and_every_parameter_is_planned(family, tmp_path):
    model = save(FAMILIES[family], tmp_path)
    for dtype in (torch.float32, torch.bfloat16):
        decoder = load_decoder(tmp_path, dtype, max_model_len=256)
        assert decoder.num_bytes == weight_bytes(decoder.spec, dtype.itemsize, "cpu")
    corrections = [tensor for name, tensor in model.state_dict().items() if "correction_bias" in name]
    own = {tensor.data_ptr(): tensor.numel() for tensor in [*model.parameters(), *corrections]}
    assert parameter_count(decoder.spec) == sum(own.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_sequences_hold_the_blocks_that_are_planned(family, tmp_path):
    save(FAMILIES[family], tmp_path)
    length, answer = 224, 16
    config = EngineConfig(
        model=str(tmp_path), device="cpu", dtype="float32", kv_cache_memory="4Mi", max_model_len=256,
        max_num_batched_tokens=64, enable_prefix_caching=False,
    )  # fmt: skip
    engine, held = Engine(config), []
    planned = plan_memory(find_spec(str(tmp_path)), config, 2**34, "cpu")
    assert engine.ready.num_blocks == planned.num_blocks
    engine.add_request("r", *random_prompts(length), SamplingParams(max_tokens=answer, ignore_eos=True))
    while engine.has_work:
        engine.step()
        held.append(engine.load.blocks_used)
    # Between steps a window has let go of the block that the next token does not see any more.
    spared = planned.sequence_bytes(length + answer) // planned.block_bytes - max(held)
    assert 0 <= spared <= sum(window is not None for window in planned.windows)
