"""The further ranks of the node that leads. They start before its own process imports torch, which takes each of them
as long. Free of torch."""

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.interface import use_network_of
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.models.loading.specs import spec_of
from octavo_runtime.models.served import as_served
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.planning.memory import shares
from octavo_runtime.worker.follower import Follower, start_ranks_of
from octavo_runtime.worker.nodes import address_of_first


def start_further(config: EngineConfig, files: ModelFiles) -> list[Follower]:
    """Those of the configuration but this process's own, which wait to be told where ranks meet. Raises ValueError
    where so many ranks cannot share the model, and RankFailed."""
    _check_shares(config, files)
    use_network_of(address_of_first(config))
    return start_ranks_of(config, range(1, config.local_ranks))


def _check_shares(config: EngineConfig, files: ModelFiles) -> None:
    spec = spec_of(files)
    if spec.encoder is not None:
        for name in ("tensor_parallel_size", "pipeline_parallel_size"):
            if getattr(config, name) != 1:
                raise UnsupportedModel(f"{name}: must be 1 for an encoder, got {getattr(config, name)}")
    shares(as_served(spec, config), config, "cuda")  # whether they can; how is each device's affair
