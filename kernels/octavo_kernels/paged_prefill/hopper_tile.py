"""The tiles that a program of paged_prefill's kernel for Hopper takes, in Gluon: what each of its warps works out."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def tile_of(turn, tiles, count, query_start, seq_lens, HEADS: gl.constexpr):
    """The tile that a program takes in its turn: head, sequence, first query within the sequence, the sequence's first
    query, its queries, its length, and runs of keys: 0 where there is no tile. Every second turn goes backwards over
    the programs, so that their loads even out; a tile's heads lie side by side, since they share keys."""
    programs = gl.num_programs(0)
    place = gl.program_id(0)
    if turn % 2 == 1:
        place = programs - 1 - place
    index = turn * programs + place
    there = index < count * HEADS
    tile = tiles + gl.minimum(index // HEADS, count - 1) * 2
    sequence = gl.load(tile)
    first = gl.load(tile + 1) * 128
    start = gl.load(query_start + sequence)
    queries = gl.load(query_start + sequence + 1) - start
    length = gl.load(seq_lens + sequence)
    runs = (gl.minimum(length, length - queries + first + 128) + 127) // 128
    return index % HEADS, sequence, first, start, queries, length, gl.where(there, runs, 0)
