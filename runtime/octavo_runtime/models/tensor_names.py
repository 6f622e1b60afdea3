"""How checkpoints name the tensors of a layer. Free of torch."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ExpertNames:
    """Names below `model.layers.N.` of a layer's experts. In gate_up and down, `{}` is an expert's number; without it
    one tensor holds all experts, [experts, out, in]. Projections that run as one stand together; a checkpoint that
    stores them as one has one name for them."""

    router: str = "mlp.gate.weight"
    correction: str = "mlp.gate.e_score_correction_bias"
    correction_is_row: bool = False  # [1, experts] instead of [experts]
    gate_up: tuple[str, ...] = ("mlp.experts.{}.gate_proj.weight", "mlp.experts.{}.up_proj.weight")
    down: str = "mlp.experts.{}.down_proj.weight"
    shared_gate_up: tuple[str, ...] = ("mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj")
    shared_down: str = "mlp.shared_experts.down_proj"
    shared_gate: str = "mlp.shared_expert_gate"
    router_bias: str = "mlp.router.bias"
    biases: tuple[str, str] = ("mlp.experts.gate_up_proj_bias", "mlp.experts.down_proj_bias")
    is_transposed: bool = False  # [experts, in, out], unless packed
    alternates: bool = False  # the rows of gate and up stand by turns
    packed: tuple[str, str] = ("_blocks", "_scales")  # behind the names of packed weights

    def stacked(self) -> "ExpertNames":
        """All experts in one tensor, as transformers holds them in memory."""
        return replace(self, gate_up=("mlp.experts.gate_up_proj",), down="mlp.experts.down_proj")


@dataclass(frozen=True)
class TensorNames:
    """Names below `model.layers.N.`, as transformers' Llama has them. A norm without a name is not there. Projections
    that run as one stand together; a checkpoint that stores them as one has one name for them. In the names of norms of
    queries and keys `{}` is a head's number; without it one tensor holds all."""

    attention_norm: str | None = "input_layernorm"
    attention_post_norm: str | None = None  # of what attention adds to the residual stream
    mlp_norm: str | None = "post_attention_layernorm"
    mlp_post_norm: str | None = None  # of what the MLP adds
    q_norm: str = "self_attn.q_norm"
    k_norm: str = "self_attn.k_norm"
    sinks: str = "self_attn.sinks"
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    output: str = "self_attn.o_proj"
    gate_up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    experts: tuple[ExpertNames, ...] = ()  # the forms that checkpoints have; the first one is the hub's
    is_transposed: bool = False  # projections are stored as [in, out]
    beginnings: tuple[tuple[str, str], ...] = ()  # how names begin in a checkpoint, and how they do here

    @property
    def stream_norms(self) -> tuple[str, ...]:
        """The norms of a layer's residual stream, and of what is added to it."""
        names = self.attention_norm, self.attention_post_norm, self.mlp_norm, self.mlp_post_norm
        return tuple(name for name in names if name is not None)


LLAMA_NAMES = TensorNames()


def layer_prefix(index: int) -> str:
    """How the names of a layer's tensors begin."""
    return f"model.layers.{index}."
