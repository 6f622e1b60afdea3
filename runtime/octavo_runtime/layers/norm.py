"""RMSNorm (Zhang and Sennrich 2019), and the residual stream that it reads."""

from dataclasses import dataclass

from torch import Tensor

from octavo_kernels import add_rms_norm, rms_norm


@dataclass(frozen=True)
class RMSNorm:
    """weight: [hidden], to which `offset` is added where it multiplies."""

    weight: Tensor
    eps: float
    offset: float = 0.0

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes

    def __call__(self, stream: Tensor, added: Tensor | None = None) -> Tensor:
        """The residual stream [tokens, hidden], normalised, once `added`, where there is any, is added to it in
        place."""
        if added is None:
            return rms_norm(stream, self.weight, self.eps, offset=self.offset)
        return add_rms_norm(added, stream, self.weight, self.eps, total=stream, offset=self.offset)[0]

    def heads(self, states: Tensor) -> Tensor:
        """Queries or keys [tokens, heads, head_dim], each head normalised by itself; weight: [head_dim]."""
        return self(states.reshape(-1, states.shape[-1])).view(states.shape)
