"""`octavo bench quantizers`: what the weights of a model in fewer bits change in its next tokens, whoever made them.

All checkpoints are read by this runtime and compute in float32, so that they differ by their weights alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.rows import Row, publish
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.options import BadOption
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.quantizer.calibration import check_length, held_out
from octavo_runtime.quantizer.judging import judge
from octavo_runtime.quantizer.report import Judged
from octavo_runtime.quantizer.streams import scores_of_text
from octavo_runtime.text.tokenizer import load_tokenizer


def run(original: str, quantized: Sequence[str], text: Path | None, pieces: int, tokens: int, *, as_json: bool) -> None:
    """A row for the original, and one for each of the others. Raises ValueError with one line for what cannot be read
    or compared."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    before = _load(original, device, tokens)
    tokenizer = load_tokenizer(locate(original))
    texts = held_out(text, tokenizer, before.spec.vocab_size, pieces, tokens, "text")
    rows = [_row(original, before, compare(before, before, texts))]
    for folder in quantized:
        after = _load(folder, device, tokens)
        if after.spec.vocab_size != before.spec.vocab_size:
            raise BadOption(
                f"quantized: must have {before.spec.vocab_size} words as the original, got {after.spec.vocab_size}: "
                f"{folder}"
            )
        rows.append(_row(folder, after, compare(before, after, texts)))
        del after
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    setting = f"{Path(original).name}, {len(texts)} texts of {tokens} tokens"
    publish("quantizers", machine(name), setting, rows, None, as_json=as_json)


@torch.inference_mode()
def compare(before: Decoder, after: Decoder, texts: Sequence[Sequence[int]]) -> Judged:
    """The second model's next tokens beside the first's."""

    def scores() -> Iterator[tuple[Tensor, Tensor]]:
        for text in texts:
            one = scores_of_text(before, text)
            yield one, one if after is before else scores_of_text(after, text)

    return judge(scores(), texts)


def _load(model: str, device: torch.device, tokens: int) -> Decoder:
    """tokens: that it is to read at once."""
    config = EngineConfig(model=model, dtype="float32", max_model_len=tokens)
    decoder = load_model(config, locate(model), device, torch.float32)
    check_length(decoder.spec, tokens, "tokens")
    return decoder


def _row(folder: str, decoder: Decoder, judged: Judged) -> Row:
    """kl_mnat: thousandths of a nat."""
    scheme = decoder.spec.quantization
    method = "" if scheme is None else f" ({scheme.format}, {scheme.bits} bits)"
    size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    figures = {"mb": size / 1e6, "perplexity": judged.perplexities[1], "kl_mnat": 1e3 * judged.mean_divergence}
    return Row(f"{Path(folder).name}{method}", figures)
