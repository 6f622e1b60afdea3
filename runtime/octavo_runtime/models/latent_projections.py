"""What latent attention multiplies by, which all families name alike. Free of torch."""

from octavo_runtime.models.spec import ModelSpec

QUERIES, QUERY_LATENT, FROM_QUERY_LATENT = "self_attn.q_proj", "self_attn.q_a_proj", "self_attn.q_b_proj"
COMPRESSION, EXPANSION, OUTPUT = "self_attn.kv_a_proj_with_mqa", "self_attn.kv_b_proj", "self_attn.o_proj"


def latent_projections(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """Names below a layer's prefix and shapes [out, in]."""
    has, hidden, rope = spec.latent, spec.hidden_size, spec.rotated
    assert has is not None
    queries, attended = spec.num_heads * spec.head_dim, spec.num_heads * has.value_dim
    expanded = spec.num_heads * (spec.head_dim - rope) + attended
    common = {
        COMPRESSION: (has.rank + rope, hidden),
        EXPANSION: (expanded, has.rank),
        OUTPUT: (hidden, attended),
    }
    if has.query_rank is None:
        return common | {QUERIES: (queries, hidden)}
    return common | {QUERY_LATENT: (has.query_rank, hidden), FROM_QUERY_LATENT: (queries, has.query_rank)}
