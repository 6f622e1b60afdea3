"""What stands behind a model and makes vectors or scores of its states: as its files say, or as a reranker
that is asked for. Free of torch."""

from pathlib import Path

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.loading.json_file import read_object
from octavo_runtime.models.loading.sentence_modules import SentenceModules, read_modules
from octavo_runtime.models.rerankers import RERANKERS
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel


def text_modules(config: EngineConfig, folder: Path, spec: ModelSpec) -> SentenceModules | None:
    """Those of a model in a folder of Hugging Face's; None where there are none. Raises UnsupportedModel."""
    if config.reranker == "auto":
        return read_modules(folder)
    if spec.encoder is not None or spec.labels:
        raise UnsupportedModel(f"reranker: must be auto for a model that does not generate text, got {config.reranker}")
    reranker = RERANKERS[config.reranker]
    true, false = (_token(folder, word) for word in (reranker.true_word, reranker.false_word))
    return SentenceModules(true_token=true, false_token=false)


def _token(folder: Path, word: str) -> int:
    path = folder / "tokenizer.json"
    found = read_object(path).get("model")
    words = found.get("vocab") if isinstance(found, dict) else None
    token = words.get(word) if isinstance(words, dict) else None
    if not isinstance(token, int):
        raise UnsupportedModel(f"{path}: must have the word {word!r} as a token for a reranker, has none")
    return token
