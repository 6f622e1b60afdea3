"""What came of a quantisation, in a few lines. Free of torch."""

import math
from dataclasses import dataclass, replace

from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.gpus import Gpu
from octavo_runtime.planning.roofline import decode_cost
from octavo_runtime.quantization.configuration import scheme_of
from octavo_runtime.quantizer.recipe import FEWEST_TOKENS, Recipe

_CONTEXT = 1024  # tokens of the sequence whose decoding is reckoned


@dataclass
class Judged:
    """Sums over the tokens of the held-out texts: minus the logarithms of the probabilities that the model before and
    the one after give the next token, and the divergence (Kullback and Leibler 1951) of the second from the first."""

    before: float = 0.0
    after: float = 0.0
    divergence: float = 0.0
    tokens: int = 0

    @property
    def perplexities(self) -> tuple[float, float]:
        """Before and after."""
        return math.exp(self.before / self.tokens), math.exp(self.after / self.tokens)

    @property
    def mean_divergence(self) -> float:
        """Of a token, in nats."""
        return self.divergence / self.tokens


def report(judged: Judged, sizes: tuple[int, int], spec: ModelSpec, recipe: Recipe, gpu: Gpu, few: int = 0) -> str:
    """sizes: bytes before and after. few: experts that few tokens of the calibration chose."""
    quantized = replace(spec, quantization=scheme_of(recipe.configuration()))
    before, after = judged.perplexities
    fast = [decode_cost(each, gpu, 1, _CONTEXT).tokens_per_second for each in (spec, quantized)]
    told = f"experts calibrated by others' tokens too, fewer than {FEWEST_TOKENS} chose them"
    rows = (
        ("", "before", "after"),
        (f"perplexity of {judged.tokens:,} held-out tokens", f"{before:.3f}", f"{after:.3f}"),
        ("KL divergence of the next token, nats", "", f"{judged.mean_divergence:.5f}"),
        ("weights", *(f"{size / 1e6:,.1f} MB" for size in sizes)),
        (f"decode on {gpu.name} at best (roofline), tokens/s", *(f"{each:,.0f}" for each in fast)),
        *([(told, "", f"{few:,}")] if few else []),
    )
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{name:<{wide[0]}}  {one:>{wide[1]}}  {two:>{wide[2]}}" for name, one, two in rows)
