"""A model whose layers several stages compute one after another brings what it brings as a whole."""

from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from family_models import FAMILIES, save
from hypothesis import given
from hypothesis import strategies as st
from small_models import in_chunks, random_prompts

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import Link
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.stages import cut, stage_of
from octavo_runtime.planning.known_models import find_spec

CPU = torch.device("cpu")
# What differs between layers, or stands before the first or behind the last.
KINDS = (
    "llama, tied embeddings",
    "gemma 3",
    "gemma 2, close caps",
    "granite, biases",
    "smollm 3, chosen layers",
    "command r7b",
    "gpt 2",
    "gpt neox",
    "bloom",
    "opt 350m",
    "phi moe",
    "qwen 3 moe",
    "ernie 4.5 moe, every other layer",
    "gpt-oss",
    "deepseek v3",
)


@dataclass(frozen=True)
class QueueLink(Link):
    """The way between stages that are computed one after another."""

    sent: deque[torch.Tensor] = field(default_factory=deque)
    heard: deque[torch.Tensor] = field(default_factory=deque)

    def send(self, tensor: torch.Tensor) -> None:
        self.sent.append(tensor.clone())

    def receive(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.copy_(self.heard.popleft())


@pytest.mark.parametrize("family", KINDS)
def test_stages_compute_the_same_scores(family: str, tmp_path: Path) -> None:
    save(FAMILIES[family], tmp_path, spread=0.2)
    config = EngineConfig(model=str(tmp_path), max_model_len=256)
    files, [prompt] = locate(str(tmp_path)), random_prompts(41)
    with torch.inference_mode():
        whole = load_model(config, files, CPU, torch.float32)
        expected = whole.logits(in_chunks(whole, prompt))
        link = QueueLink(None, 1)
        first = load_model(config, files, CPU, torch.float32, None, link, lambda _: range(1))
        in_chunks(first, prompt)
        link = QueueLink(0, None, heard=link.sent)
        last = load_model(config, files, CPU, torch.float32, None, link, lambda spec: range(1, spec.num_layers))
        found = last.logits(in_chunks(last, prompt))
    assert not link.heard
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    held = first.num_bytes + last.num_bytes - (first.embedding.weight.nbytes if whole.spec.tie_embeddings else 0)
    assert held == whole.num_bytes - (0 if whole.few_rows is None else whole.few_rows.num_bytes)


def test_a_stage_says_which_layers_it_has() -> None:
    spec = find_spec("DeepSeek-V3")
    middle = stage_of(spec, range(2, 5))
    assert spec.experts is not None
    assert middle.experts is not None
    assert min(spec.experts.layers) == 3
    assert middle.experts.layers == {1, 2}
    assert (middle.num_layers, middle.begins, middle.ends) == (3, False, False)
    assert middle.prefix_of(1) == spec.prefix_of(3)
    assert replace(stage_of(spec, range(61)), group_windows=None) == spec


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.data())
def test_each_layer_is_in_one_stage(sizes: list[int], data: st.DataObject) -> None:
    stages = data.draw(st.integers(1, len(sizes)))
    ranges = cut(sizes, stages)
    assert [layer for each in ranges for layer in each] == list(range(len(sizes)))
    assert len(ranges) == stages
    assert all(ranges)


@given(st.integers(1, 30), st.integers(1, 8))
def test_equal_layers_are_shared_evenly(count: int, stages: int) -> None:
    numbers = [len(each) for each in cut([7] * count * stages, stages)]
    assert numbers == [count] * stages


def test_a_heavy_end_has_fewer_layers() -> None:
    assert cut([1, 1, 1, 1, 1, 1, 4], 2) == [range(5), range(5, 7)]
    assert cut([9, 1, 1, 1, 1, 1, 1, 1], 2) == [range(1), range(1, 8)]
