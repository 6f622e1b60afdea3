"""Which part of a model each of its ranks computes. Free of torch."""

from dataclasses import dataclass

from octavo_runtime.config.engine import EngineConfig


@dataclass(frozen=True)
class Mesh:
    """`stages` of layers, one behind another (Huang et al. 2019), each of which `shards` ranks compute together. Ranks
    of one stage are neighbours, since they tell each other most."""

    shards: int
    stages: int = 1

    @property
    def size(self) -> int:
        return self.shards * self.stages

    def stage_of(self, rank: int) -> int:
        return rank // self.shards

    def shard_of(self, rank: int) -> int:
        return rank % self.shards

    def ranks_of(self, stage: int) -> range:
        """The ranks of a stage."""
        return range(stage * self.shards, (stage + 1) * self.shards)

    def before(self, rank: int) -> int | None:
        """The same shard of the stage before; None where this is the first stage."""
        return rank - self.shards if self.stage_of(rank) else None

    def after(self, rank: int) -> int | None:
        """The same shard of the next stage; None where this is the last one."""
        return None if self.draws(rank) else rank + self.shards

    def draws(self, rank: int) -> bool:
        """Whether a rank is of the last stage, which draws the tokens."""
        return self.stage_of(rank) == self.stages - 1

    @property
    def teller(self) -> int:
        """The rank whose results are taken: the first of those that draw."""
        return self.ranks_of(self.stages - 1).start


def mesh_of(config: EngineConfig) -> Mesh:
    """The ranks that a configuration asks for."""
    return Mesh(config.tensor_parallel_size, config.pipeline_parallel_size)
