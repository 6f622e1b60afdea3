"""One stage's share of a model whose layers several stages compute one after another. Free of torch."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from octavo_runtime.models.layer_groups import group_windows
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel


def stage_of(spec: ModelSpec, layers: range) -> ModelSpec:
    """The spec of the stage that has these layers of a whole model: the embedding with the first, the last norm and the
    head with the last. A head that is the embedding is in both."""

    def own(every: frozenset[int]) -> frozenset[int]:
        return frozenset(layer - layers.start for layer in every if layer in layers)

    return replace(
        spec,
        num_layers=len(layers),
        layers_before=layers.start,
        layers_after=spec.num_layers - layers.stop,
        group_windows=group_windows(spec),
        unrotated_layers=own(spec.unrotated_layers),
        windowed_layers=own(spec.windowed_layers),
        experts=None if spec.experts is None else replace(spec.experts, layers=own(spec.experts.layers)),
    )


def cut(sizes: Sequence[int], stages: int) -> list[range]:
    """The layers of each stage, whose sizes [layers] are shared as evenly as whole layers can be. Raises
    UnsupportedModel where there are fewer layers than stages."""
    count = len(sizes)
    if stages > count:
        raise UnsupportedModel(f"pipeline_parallel_size: must be at most {count}, the model's layers, got {stages}")
    ends = list(accumulate(sizes, initial=0))
    cuts = [0]
    for stage in range(1, stages):
        wanted = ends[-1] * stage / stages
        possible = range(cuts[-1] + 1, count - (stages - stage) + 1)
        cuts.append(min(possible, key=lambda layer: abs(ends[layer] - wanted)))
    return [range(first, last) for first, last in pairwise([*cuts, count])]
