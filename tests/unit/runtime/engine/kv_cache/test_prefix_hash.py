"""Hashes of blocks: whatever keys and values depend on changes them."""

from hypothesis import given
from hypothesis import strategies as st

from octavo_runtime.engine.kv_cache.prefix_hash import block_hash, root_hash

TOKENS = st.lists(st.integers(0, 2**31), min_size=8, max_size=8)


@given(TOKENS, TOKENS)
def test_equal_tokens_alone_make_equal_hashes(one, other):
    root = root_hash()
    assert (block_hash(root, one) == block_hash(root, other)) == (one == other)


@given(TOKENS)
def test_the_parent_is_part_of_the_hash(tokens):
    first = block_hash(root_hash(), tokens)
    assert block_hash(first, tokens) != first


def test_salt_and_adapter_part_the_chains():
    roots = {root_hash(*words) for words in [("", ""), ("a", ""), ("", "a"), ("ab", "c"), ("a", "bc")]}
    assert len(roots) == 5


def test_a_hash_is_no_small_number():
    assert len(block_hash(root_hash(), [1] * 16)) == 32
