"""This process's share of a model."""

import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import Team
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.models.loading.specs import spec_of
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.memory import layers_of_stages


def load_share(
    config: EngineConfig, files: ModelFiles, device: torch.device, dtype: torch.dtype, team: Team | None
) -> Decoder:
    """What this rank of a team computes of a model, or the whole of it. Raises UnsupportedModel."""
    if team is None:
        return load_model(config, files, device, dtype)
    if device.type == "cuda" and dtype != torch.float32:
        team = _with_peers(team, config, spec_of(files))
    if team.mesh.stages == 1:
        return load_model(config, files, device, dtype, team.group)
    stage = team.mesh.stage_of(team.rank)

    def layers(spec: ModelSpec) -> range:
        return layers_of_stages(spec, config, device.type)[stage]

    return load_model(config, files, device, dtype, team.group, team.link, layers)


def _with_peers(team: Team, config: EngineConfig, spec: ModelSpec) -> Team:
    """The team on GPUs, which write to each other's memory where those of a group are of one machine."""
    if team.group is None or config.local_ranks % team.mesh.shards:
        return team
    from octavo_runtime.distributed.peers import with_peers

    first = team.rank % config.local_ranks - team.group.rank
    return with_peers(team, spec.hidden_size, list(range(first, first + team.group.size)))
