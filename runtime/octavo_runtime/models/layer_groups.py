"""The groups of layers that share block tables in the KV cache. Free of torch.

A block of the KV cache holds some tokens' keys and values in the layers of one group. Layers whose attention reaches to
the first token and those that see a window lie in groups of their own, so that a block behind the window can be given
to others. All groups take their blocks from one pool, which is why they have the same size, as in vLLM's hybrid KV
cache: the fewer kind's layers are one group, and the others are cut into as many as it takes."""

from collections import Counter
from typing import NamedTuple

from octavo_runtime.layers.cache_place import CachePlace
from octavo_runtime.models.spec import ModelSpec

# Each group has a block table for each sequence. Where it would take more of one kind, groups are larger.
_MOST_OF_A_KIND = 7


class LayerGroup(NamedTuple):
    """`window`: the last tokens that its layers attend to; None: to all."""

    window: int | None
    layers: tuple[int, ...]


def layer_groups(spec: ModelSpec) -> tuple[LayerGroup, ...]:
    """Those of a model, first those without a window; none of an encoder, which keeps nothing. A stage of a pipeline
    has those of the whole model, since one table names a sequence's blocks to all stages: its own layers of a kind are
    shared over that kind's groups, of which some may have none."""
    groups: list[LayerGroup] = []
    for window, count in Counter(group_windows(spec)).items():
        layers = [layer for layer in range(spec.num_layers) if spec.window_of(layer) == window]
        size = max(-(-len(layers) // count), 1)
        groups += [LayerGroup(window, tuple(layers[place * size :][:size])) for place in range(count)]
    return tuple(groups)


def group_windows(spec: ModelSpec) -> tuple[int | None, ...]:
    """The windows of a model's groups, or of those of the model that a stage is of."""
    if spec.encoder is not None:
        return ()
    if spec.group_windows is not None:
        return spec.group_windows
    counts = Counter(map(spec.window_of, range(spec.num_layers)))
    fewest, most = min(counts.values(), default=1), max(counts.values(), default=1)
    size = max(fewest, -(-most // _MOST_OF_A_KIND)) if len(counts) > 1 else most
    kinds = sorted(counts, key=lambda window: window is not None)
    return tuple(window for window in kinds for _ in range(-(-counts[window] // size)))


def layers_of_a_block(spec: ModelSpec) -> int:
    """Layers that a block has room for: those of the largest group."""
    return max((len(group.layers) for group in layer_groups(spec)), default=0)


def cache_places(spec: ModelSpec) -> list[CachePlace]:
    """Of each layer."""
    places = {
        layer: CachePlace(number, position)
        for number, group in enumerate(layer_groups(spec))
        for position, layer in enumerate(group.layers)
    }
    return [places[layer] for layer in range(spec.num_layers)]


def most_entries(window: int | None, block_size: int, length: int, new_tokens: int) -> int:
    """The most blocks that a sequence of `length` tokens holds in a group with that window while a step computes
    `new_tokens` of them: the window of the first of these and the others."""
    entries = -(-length // block_size)
    if window is None:
        return entries
    return min(entries, -(-(window + new_tokens - 2) // block_size) + 1)
