"""The identity of a full block in the prefix cache: a chained sha256 over all that its keys and values depend on.

A block's keys and values are a function of its tokens and of every token before it, so its hash covers its parent's
hash and its own tokens. The chain's root covers the cache salt and the adapter, so that tenants with different salts
can neither share blocks nor measure whether another's prompt is cached."""

import hashlib
from array import array
from collections.abc import Sequence


def root_hash(cache_salt: str = "", adapter: str = "") -> bytes:
    """The parent of a prompt's first block."""
    words = [text.encode() for text in (cache_salt, adapter)]
    # Lengths before the words, so that no two pairs make the same bytes.
    return hashlib.sha256(b"".join(len(word).to_bytes(8, "little") + word for word in words)).digest()


def block_hash(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """The hash of a full block behind the block (or root) whose hash is `parent`."""
    return hashlib.sha256(parent + array("q", token_ids).tobytes()).digest()
