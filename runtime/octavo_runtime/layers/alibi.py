"""ALiBi: attention with linear biases instead of positions (Press et al. 2022). Free of torch."""


def alibi_slopes(heads: int, scale: float = 1.0) -> tuple[float, ...]:
    """Of each head what a token of distance costs: the geometric sequence from 2 ** (-8 / heads) to 2 ** -8 where
    `heads` is a power of two. Else that of the power below, and then every other one of the power above. scale: of the
    slopes."""
    power = 1 << (heads.bit_length() - 1)
    slopes = [2 ** (-8 * place / power) for place in range(1, power + 1)]
    slopes += [2 ** (-8 * (place + 0.5) / power) for place in range(heads - power)]
    return tuple(scale * slope for slope in slopes)
