"""Which part of a model each rank computes."""

from hypothesis import given
from hypothesis import strategies as st

from octavo_runtime.distributed.mesh import Mesh

meshes = st.builds(Mesh, st.integers(1, 9), st.integers(1, 9))


@given(meshes)
def test_each_shard_of_each_stage_is_one_rank(mesh: Mesh) -> None:
    places = [(mesh.stage_of(rank), mesh.shard_of(rank)) for rank in range(mesh.size)]
    assert places == [(stage, shard) for stage in range(mesh.stages) for shard in range(mesh.shards)]
    assert [rank for stage in range(mesh.stages) for rank in mesh.ranks_of(stage)] == list(range(mesh.size))


@given(meshes)
def test_what_one_sends_the_next_stage_hears(mesh: Mesh) -> None:
    for rank in range(mesh.size):
        after = mesh.after(rank)
        assert (after is None) == mesh.draws(rank)
        assert (mesh.before(rank) is None) == (mesh.stage_of(rank) == 0)
        if after is not None:
            assert mesh.before(after) == rank
            assert mesh.shard_of(after) == mesh.shard_of(rank)
    assert mesh.draws(mesh.teller)
    assert mesh.shard_of(mesh.teller) == 0
