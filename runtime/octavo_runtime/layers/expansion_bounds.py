"""How much latent attention expands of its cache at once: memory is bounded, however long sequences are. Free of torch.

An element here is one of what is expanded for one token and one head: its key and its value as attention reads them,
both of a key's size, and the product that they are taken from."""

_MOST_ELEMENTS = 2**25
_LEAST_HEADS = 8  # with fewer heads at once, sequences are not taken together


def expanded_size(head_dim: int, rotated: int, value_dim: int) -> int:
    """Elements of one token and one head."""
    return 2 * head_dim + head_dim - rotated + value_dim


def tokens_together(size: int) -> int:
    """How many tokens sequences may have together that are expanded at once. size: see expanded_size."""
    return _MOST_ELEMENTS // (_LEAST_HEADS * size)


def heads_at_once(tokens: int, size: int, num_heads: int) -> int:
    """How many heads are expanded at once for so many tokens."""
    return max(1, min(num_heads, _MOST_ELEMENTS // (tokens * size)))


def most_elements(longest: int, size: int) -> int:
    """The most that is expanded at once where the longest sequence has so many tokens."""
    return max(_MOST_ELEMENTS, longest * size)
