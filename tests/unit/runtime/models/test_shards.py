"""A model that several ranks share computes what one process computes of it."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from family_models import FAMILIES, save
from small_models import cache_shape, in_groups, random_prompts

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import Group
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.shards import shard
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.protocol.step import Slice
from octavo_runtime.worker.batch import build_batch

CPU = torch.device("cpu")
SIZES = 2, 3, 7
BLOCK, BLOCKS, LENGTH = 8, 8, 41
# Five heads and an inner width of 112 have no number of ranks in common; Falcon stores the one KV head of all queries
# between these.
SHARED = [name for name, config in FAMILIES.items() if config.num_attention_heads != 5 and name != "falcon"]
SPAN = [name for name, config in FAMILIES.items() if config.model_type in ("olmo2", "olmoe", "minimax_m2")]


@dataclass
class Meeting:
    """Where the ranks meet that are threads of this process."""

    barrier: threading.Barrier
    brought: list[torch.Tensor]

    def exchange(self, rank: int, tensor: torch.Tensor) -> list[torch.Tensor]:
        self.brought[rank] = tensor.clone()
        self.barrier.wait(60)
        everybodys = list(self.brought)
        self.barrier.wait(60)
        return everybodys


@dataclass(frozen=True)
class ThreadGroup(Group):
    """A Group of threads."""

    meeting: Meeting

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.copy_(torch.stack(self.meeting.exchange(self.rank, tensor)).sum(0))

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.meeting.exchange(self.rank, tensor), dim=1)


def first_size(spec: ModelSpec) -> int:
    """The fewest ranks that can share it."""
    for size in SIZES:
        try:
            shard(spec, size)
        except UnsupportedModel:
            continue
        return size
    raise AssertionError(f"none of {SIZES} ranks can share {spec}")


def scores(decoder: Decoder, prompt: list[int]) -> torch.Tensor:
    """Of a prompt in two chunks, and its last token alone."""
    spec = decoder.spec
    decoder.reach(BLOCK * BLOCKS)
    cache = torch.full(cache_shape(spec, BLOCKS, BLOCK), torch.nan)
    tables = in_groups(spec, torch.arange(BLOCKS, dtype=torch.int32).numpy()[None], BLOCKS)
    found, cuts = [], (0, 17, len(prompt) - 1, len(prompt))
    for first, last in itertools.pairwise(cuts):
        batch = build_batch([Slice(0, first, prompt[first:last])], tables, BLOCK, CPU)
        found.append(decoder.logits(decoder.forward(batch, cache)))
    return torch.cat(found)


@pytest.mark.parametrize("family", [name for name in SHARED if name not in SPAN])
def test_ranks_compute_the_same_scores(family: str, tmp_path: Path) -> None:
    save(FAMILIES[family], tmp_path, spread=0.2)
    config = EngineConfig(model=str(tmp_path), max_model_len=256)
    files, [prompt] = locate(str(tmp_path)), random_prompts(LENGTH)
    with torch.inference_mode():
        expected = scores(load_model(config, files, CPU, torch.float32), prompt)
    size = first_size(spec_from_folder(tmp_path))
    meeting = Meeting(threading.Barrier(size), [torch.empty(0)] * size)

    def compute(rank: int) -> torch.Tensor:
        with torch.inference_mode():
            decoder = load_model(config, files, CPU, torch.float32, ThreadGroup(rank, size, meeting))
            return scores(decoder, prompt)

    with ThreadPoolExecutor(size) as pool:
        ranks = list(pool.map(compute, range(size)))
    for found in ranks:
        assert torch.equal(found, ranks[0]), "what is drawn must be the same in all ranks"
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("family", SPAN)
def test_norms_of_all_heads_are_refused(family: str, tmp_path: Path) -> None:
    save(FAMILIES[family], tmp_path)
    with pytest.raises(UnsupportedModel, match="tensor_parallel_size: must be 1 for a model that normalises all heads"):
        shard(spec_from_folder(tmp_path), FAMILIES[family].num_attention_heads)


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        ("Llama-3.1-8B", 3, "tensor_parallel_size: must divide the 32 attention heads, got 3"),
        ("SmolLM2-135M", 3, None),
        ("Llama-3.1-8B", 16, None),
        (
            "gpt-oss-20b",
            64,
            "tensor_parallel_size: must divide an expert's inner width of 2880 in groups of 32, got 64",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused_by_name(model: str, size: int, words: str | None) -> None:
    spec = find_spec(model)
    if words is None:
        assert shard(spec, size).num_heads == spec.num_heads // size
        assert shard(spec, size).num_kv_heads == max(spec.num_kv_heads // size, 1)
        return
    with pytest.raises(UnsupportedModel) as refused:
        shard(spec, size)
    assert str(refused.value) == words
