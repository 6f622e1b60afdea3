"""RMSNorm (Zhang and Sennrich 2019), and the residual stream that it reads."""

from dataclasses import dataclass

from torch import Tensor

from octavo_kernels import add_rms_norm, rms_norm


@dataclass(frozen=True)
class RMSNorm:
    """weight: [hidden]."""

    weight: Tensor
    eps: float

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes

    def __call__(self, hidden: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """The stream with `hidden` added, normalised and as it is, both [tokens, hidden]. residual: the stream so far;
        None where `hidden` begins it."""
        if residual is None:
            return rms_norm(hidden, self.weight, self.eps), hidden
        return add_rms_norm(hidden, residual, self.weight, self.eps)

    def heads(self, states: Tensor) -> Tensor:
        """Queries or keys [tokens, heads, head_dim], each head normalised by itself; weight: [head_dim]."""
        return rms_norm(states.reshape(-1, states.shape[-1]), self.weight, self.eps).view(states.shape)
