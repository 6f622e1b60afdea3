"""Where a device's memory goes, free of torch: weights, reserves, and what that leaves to the KV cache. The engine,
`octavo plan` and the operator reckon with these same functions."""

from dataclasses import dataclass

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.units import gigabytes, parse_quantity
from octavo_runtime.models.layer_groups import group_windows
from octavo_runtime.models.served import as_served
from octavo_runtime.models.shards import shard
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.stages import cut, stage_of
from octavo_runtime.planning.kv_cache import (
    GPU_SWAP_LIMIT,
    cache_problem,
    cache_room,
    cpu_cache_bytes,
    kv_bytes_per_block,
    kv_bytes_per_token,
    kv_element_size,
    num_blocks,
    sequence_blocks,
    swap_bytes,
)
from octavo_runtime.planning.limits import (
    DoesNotFit,
    check_model_limit,
    encoder_max_model_len,
    settle_max_model_len,
    token_budget,
)
from octavo_runtime.planning.parameters import active_parameter_count, element_size, parameter_count, weight_bytes
from octavo_runtime.planning.quantized_weights import cpu_packed_bytes
from octavo_runtime.planning.reserves import CPU_PROCESS_BYTES, CUDA_CONTEXT_BYTES, activation_bytes, graph_bytes


@dataclass(frozen=True)
class MemoryPlan:
    """Where a device's memory goes. All sizes in bytes. active_parameters: those that one token meets.

    device_memory: on a GPU all of it, on a CPU what the server may use. budget: the share of it that the engine uses.
    context_bytes: of the driver and the CUDA context, or on a CPU of the processes themselves.
    kv_cache_bytes: what is left for the KV cache, negative where the rest alone is too much. swap_bytes: host memory
    for the blocks of preempted requests, on a CPU out of the same memory, on a GPU the most that it may take.
    kv_bytes_per_token: in all layers. block_bytes: of a block, which is one of a group of layers; windows: of these
    groups. room: tokens of the longest sequence that the KV cache holds.
    max_model_len: tokens of the longest request; 0 with a problem, which is one line that says why the engine would not
    start."""

    device_memory: int
    budget: int
    parameters: int
    active_parameters: int
    weight_bytes: int
    context_bytes: int
    activation_bytes: int
    graph_bytes: int
    kv_cache_bytes: int
    kv_bytes_per_token: int
    block_size: int
    block_bytes: int
    windows: tuple[int | None, ...]
    num_blocks: int
    room: int
    swap_bytes: int
    num_host_blocks: int
    max_model_len: int
    problem: str | None

    @property
    def reserves(self) -> int:
        """Bytes of all that is neither weights nor KV cache."""
        return self.context_bytes + self.activation_bytes + self.graph_bytes

    @property
    def num_tokens(self) -> int:
        """Tokens that the KV cache holds in all layers; of longer sequences than a window it holds more."""
        return self.num_blocks // max(len(self.windows), 1) * self.block_size

    def sequence_bytes(self, length: int, new_tokens: int = 1) -> int:
        """Bytes of the KV cache that a sequence of `length` tokens holds, while a step computes new_tokens of them."""
        return sequence_blocks(self.windows, self.block_size, length, new_tokens) * self.block_bytes

    def num_sequences(self, length: int) -> int:
        """Sequences of `length` tokens that the KV cache holds at once."""
        return self.num_blocks // max(sequence_blocks(self.windows, self.block_size, length), 1)

    def num_sequences_before_reserves(self, length: int) -> int:
        """The same by the rule of thumb: budget less weights, over the bytes of one sequence."""
        slots = sum(min(length, window or length) for window in self.windows)
        return max(self.budget - self.weight_bytes, 0) * self.block_size // max(slots * self.block_bytes, 1)


def plan_memory(
    spec: ModelSpec, config: EngineConfig, device_memory: int, device: str = "cuda", packed_bytes: int = 0
) -> MemoryPlan:
    """What the engine would settle on with `device_memory` bytes of a "cuda" or "cpu" device, or of each of the devices
    that share the model; of a pipeline's stages, for the one with the least room. packed_bytes: by how many a CPU's
    weights are more than in 16 bits, for those that it keeps packed (see planning.description.FoundModel). Raises
    DoesNotFit where the configuration breaks a bound that is no question of memory."""
    check_model_limit(config, spec.max_position)
    try:
        spec = as_served(spec, config)
    except UnsupportedModel as error:
        raise DoesNotFit(str(error)) from None
    if spec.values_at_load is not None:
        packed_bytes = cpu_packed_bytes(spec)
    if config.num_ranks > 1:
        packed_bytes = 0
        device_memory = device_memory if device == "cuda" else device_memory // config.local_ranks
    stages = shares(spec, config, device)
    plans = [_plan_share(spec, share, config, device_memory, device, packed_bytes) for share in stages]
    return min(plans, key=lambda plan: (plan.problem is None, plan.num_blocks))


def _plan_share(
    whole: ModelSpec, spec: ModelSpec, config: EngineConfig, device_memory: int, device: str, packed_bytes: int
) -> MemoryPlan:
    """What the device settles on that computes `spec` of the whole model."""
    element_bytes = element_size(config)
    tokens = token_budget(config, device)
    on_gpu = device == "cuda"
    weights = weight_bytes(spec, element_bytes, device)
    if not on_gpu and element_bytes == 2:
        weights += packed_bytes
    context = CUDA_CONTEXT_BYTES if on_gpu else CPU_PROCESS_BYTES
    activations = activation_bytes(spec, tokens, config.max_num_seqs, element_size(config)) if on_gpu else 0
    graphs = graph_bytes(spec, config) if on_gpu else 0
    budget = int(device_memory * config.gpu_memory_utilization) if on_gpu else device_memory
    needed = weights + context + activations + graphs
    if spec.encoder is not None:
        cache = 0
    elif config.kv_cache_memory is not None:
        cache = parse_quantity(config.kv_cache_memory)
    else:
        cache = budget - needed if on_gpu else cpu_cache_bytes(budget - needed)
    blocks = num_blocks(spec, config, cache)
    room = cache_room(spec, config.block_size, blocks, tokens)
    problem, longest, swap = None, 0, 0
    if spec.encoder is None:
        problem = cache_problem(config, device_memory - needed, device_memory)
    if problem is None and needed > budget:
        least, used = gigabytes(needed), gigabytes(budget)
        problem = f"memory: must be at least {least} for weights and reserves, got {used} to use"
    if problem is None and spec.encoder is not None:
        longest = encoder_max_model_len(config, spec.max_position, None)
    elif problem is None:
        # Of a GPU's host nothing is known here: what is asked for is there.
        asked = parse_quantity(config.swap_space or "0")
        free = asked + 8 * GPU_SWAP_LIMIT if on_gpu else device_memory - needed - cache
        try:
            swap = swap_bytes(config, device, cache, free)
            longest = settle_max_model_len(config, spec.max_position, room)
        except DoesNotFit as error:
            problem = str(error)
    return MemoryPlan(
        device_memory=device_memory,
        budget=budget,
        parameters=parameter_count(whole),
        active_parameters=active_parameter_count(whole),
        weight_bytes=weights,
        context_bytes=context,
        activation_bytes=activations,
        graph_bytes=graphs,
        kv_cache_bytes=cache,
        kv_bytes_per_token=kv_bytes_per_token(spec, kv_element_size(config)),
        block_size=config.block_size,
        block_bytes=kv_bytes_per_block(spec, config.block_size, kv_element_size(config)),
        windows=group_windows(spec),
        num_blocks=blocks,
        room=room,
        swap_bytes=swap,
        num_host_blocks=num_blocks(spec, config, swap),
        max_model_len=longest,
        problem=problem,
    )


def shares(spec: ModelSpec, config: EngineConfig, device: str) -> list[ModelSpec]:
    """What one of the devices of each stage computes of a model. Raises DoesNotFit where it cannot be cut so."""
    try:
        share = shard(spec, config.tensor_parallel_size, whole_experts=config.enable_expert_parallel)
        if config.pipeline_parallel_size == 1:
            return [share]
        return [stage_of(share, layers) for layers in layers_of_stages(spec, config, device)]
    except UnsupportedModel as error:
        raise DoesNotFit(str(error)) from None


def layers_of_stages(spec: ModelSpec, config: EngineConfig, device: str) -> list[range]:
    """The layers of each stage of a pipeline on devices of that type, shared by the bytes of their weights; those of
    the embedding go with the first and those of the head with the last. Raises UnsupportedModel."""
    layers = [stage_of(spec, range(layer, layer + 1)) for layer in range(spec.num_layers)]
    sizes = [weight_bytes(layer, element_size(config), device) for layer in layers]
    return cut(sizes, config.pipeline_parallel_size)
