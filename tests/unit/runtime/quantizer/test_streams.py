"""A model of which one layer is in memory at a time against the whole decoder."""

import numpy as np
import pytest
import torch
from family_models import FAMILIES, save
from small_models import cache_shape, in_groups

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.step import Slice
from octavo_runtime.quantizer.source import open_source
from octavo_runtime.quantizer.streams import advance, build_ends, build_layer, embed, scores, scores_of_text
from octavo_runtime.worker.batch import build_batch

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "family",
    [
        "llama",
        "gemma 2",
        "gemma 3",
        "smollm 3, windows",
        "command r7b",
        "falcon, new",
        "olmo 2",
        "opt",
        "granite",
        "bloom",
        "mixtral",
    ],
)
@torch.inference_mode()
def test_scores_are_the_decoders(family, tmp_path):
    save(FAMILIES[family], tmp_path, spread=0.2)
    text = torch.randint(3, 256, (60,), generator=torch.Generator().manual_seed(0)).tolist()
    source = open_source(str(tmp_path))
    ends = build_ends(source.spec, source.checkpoint.read, CPU)
    stream = embed(ends, text, CPU)
    for index in range(source.spec.num_layers):
        advance(build_layer(source.spec, index, source.layer(index), CPU), [stream])
    whole = load_model(EngineConfig(model=str(tmp_path)), locate(str(tmp_path)), CPU, torch.float32)
    whole.reach(64)
    cache = torch.zeros(cache_shape(whole.spec, 4, 16))
    batch = build_batch([Slice(0, 0, text)], in_groups(whole.spec, np.arange(4, dtype=np.int32)[None], 4), 16, CPU)
    expected = whole.logits(whole.forward(batch, cache)).log_softmax(-1)
    torch.testing.assert_close(scores(ends, stream), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores_of_text(whole, text), expected, rtol=1e-4, atol=1e-4)
