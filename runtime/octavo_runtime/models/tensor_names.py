"""How checkpoints name the tensors of a layer. Free of torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorNames:
    """Names below `model.layers.N.`, as transformers' Llama has them. A norm without a name is not there. Projections
    that run as one stand together; a checkpoint that stores them as one has one name for them."""

    attention_norm: str | None = "input_layernorm"
    attention_post_norm: str | None = None  # of what attention adds to the residual stream
    mlp_norm: str | None = "post_attention_layernorm"
    mlp_post_norm: str | None = None  # of what the MLP adds
    q_norm: str = "self_attn.q_norm"
    k_norm: str = "self_attn.k_norm"
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    output: str = "self_attn.o_proj"
    gate_up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"

    @property
    def stream_norms(self) -> tuple[str, ...]:
        """The norms of a layer's residual stream, and of what is added to it."""
        names = self.attention_norm, self.attention_post_norm, self.mlp_norm, self.mlp_post_norm
        return tuple(name for name in names if name is not None)


LLAMA_NAMES = TensorNames()
