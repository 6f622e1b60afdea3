"""A model that several ranks share computes what one process computes of it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import gguf
import pytest
import torch
from family_models import FAMILIES, random, save
from gguf_families import write_converted
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE
from small_models import in_chunks, random_prompts
from transformers import PretrainedConfig

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import Group
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.shards import shard
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.planning.known_models import find_spec

CPU = torch.device("cpu")
SIZES = 2, 3, 7


def mixes(config: PretrainedConfig) -> bool:
    """Whether a family has experts."""
    names = "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"
    return any(getattr(config, name, None) for name in names)


LENGTH = 41
# Five heads and an inner width of 112 have no number of ranks in common; Falcon stores the one KV head of all queries
# between these.
SHARED = [name for name, config in FAMILIES.items() if config.num_attention_heads != 5 and name != "falcon"]
MIXTURES = [name for name in SHARED if mixes(FAMILIES[name]) and FAMILIES[name].num_attention_heads == 6]
SPAN = [name for name, config in FAMILIES.items() if config.model_type in ("olmo2", "olmoe", "minimax_m2")]


@dataclass
class Meeting:
    """Where the ranks meet that are threads of this process."""

    barrier: threading.Barrier
    brought: list[torch.Tensor]

    def exchange(self, rank: int, tensor: torch.Tensor) -> list[torch.Tensor]:
        self.brought[rank] = tensor.clone()
        self.barrier.wait(PATIENCE)
        everybodys = list(self.brought)
        self.barrier.wait(PATIENCE)
        return everybodys


@dataclass(frozen=True)
class ThreadGroup(Group):
    """A Group of threads."""

    meeting: Meeting = field(kw_only=True)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.copy_(torch.stack(self.meeting.exchange(self.rank, tensor)).sum(0))

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.meeting.exchange(self.rank, tensor), dim=1)


def first_size(spec: ModelSpec, sizes: tuple[int, ...] = SIZES, *, whole_experts: bool = False) -> int:
    """The first number of ranks that can share it."""
    for size in sizes:
        try:
            shard(spec, size, whole_experts=whole_experts)
        except UnsupportedModel:
            continue
        return size
    raise AssertionError(f"none of {sizes} ranks can share {spec}")


def scores(decoder: Decoder, prompt: list[int]) -> torch.Tensor:
    return decoder.logits(in_chunks(decoder, prompt))


@pytest.mark.parametrize("family", [name for name in SHARED if name not in SPAN])
def test_ranks_compute_the_same_scores(family: str, tmp_path: Path) -> None:
    save(FAMILIES[family], tmp_path, spread=0.2)
    compare_ranks(EngineConfig(model=str(tmp_path), max_model_len=256), first_size(spec_from_folder(tmp_path)))


@pytest.mark.parametrize("family", [name for name in MIXTURES if name not in SPAN])
def test_ranks_with_whole_experts_compute_the_same_scores(family: str, tmp_path: Path) -> None:
    save(FAMILIES[family], tmp_path, spread=0.2)
    # Three ranks first: most numbers of experts are no multiple of it.
    size = first_size(spec_from_folder(tmp_path), (3, 2), whole_experts=True)
    compare_ranks(EngineConfig(model=str(tmp_path), max_model_len=256, enable_expert_parallel=True), size)


@pytest.mark.parametrize("whole", [True, False])
def test_ranks_compute_the_same_scores_of_a_gguf_file(whole: bool, tmp_path: Path) -> None:
    """Whose experts are stored as the rows of one under those of another."""
    model = random(FAMILIES["qwen 3 moe"], 0.2, moe_intermediate_size=64, mlp_only_layers=[], num_experts=5)
    write_converted(tmp_path / "model.gguf", model, gguf.GGMLQuantizationType.Q8_0)
    compare_ranks(EngineConfig(model=str(tmp_path / "model.gguf"), enable_expert_parallel=whole), 2)


def compare_ranks(config: EngineConfig, size: int) -> None:
    """Holds the scores of so many ranks against those of one process."""
    alone = config.model_copy(update={"enable_expert_parallel": False})
    files, [prompt] = locate(config.model), random_prompts(LENGTH)
    with torch.inference_mode():
        expected = scores(load_model(alone, files, CPU, torch.float32), prompt)
    meeting = Meeting(threading.Barrier(size), [torch.empty(0)] * size)

    def compute(rank: int) -> torch.Tensor:
        with torch.inference_mode():
            decoder = load_model(config, files, CPU, torch.float32, ThreadGroup(rank, size, meeting=meeting))
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


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        ("Llama-3.1-8B", 1, "enable_expert_parallel: must be false for a model without experts, got true"),
        ("Mixtral-8x7B-v0.1", 16, "tensor_parallel_size: must be at most 8, the experts that ranks have whole, got 16"),
    ],
)
def test_what_has_too_few_experts_is_refused_by_name(model: str, size: int, words: str) -> None:
    with pytest.raises(UnsupportedModel) as refused:
        shard(find_spec(model), size, whole_experts=True)
    assert str(refused.value) == words


@given(size=st.integers(1, 12), more=st.integers(0, 200))
def test_each_expert_is_in_one_rank(size: int, more: int) -> None:
    spec = find_spec("Mixtral-8x7B-v0.1")
    assert spec.experts is not None
    routing = replace(spec.experts.routing, num_experts=size + more)
    spec = replace(spec, num_heads=size, num_kv_heads=size, experts=replace(spec.experts, routing=routing))
    shares = [shard(spec, size, rank, whole_experts=True).experts for rank in range(size)]
    numbers = [list(share.here) for share in shares if share is not None]
    assert [number for each in numbers for number in each] == list(range(size + more))
    assert len(numbers[0]) == max(map(len, numbers)) <= 1 + min(map(len, numbers))
