"""What the built-in model is compared with, and what a machine without it leaves out."""

import pytest

from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.selection import ModelNotFound


@pytest.fixture(scope="session")
def builtin_model() -> str:
    """For tests that also run where the package with the model's 98 MB is not installed: a machine with a GPU."""
    try:
        locate("builtin://smollm2")
    except ModelNotFound as error:
        pytest.skip(str(error))
    return "builtin://smollm2"


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """Read from the GGUF file alone: transformers would take what `octavo prepare` laid beside it."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import pre_tokenizers

    gguf = locate("builtin://smollm2").gguf
    alone = tmp_path_factory.mktemp("gguf") / gguf.name
    alone.symlink_to(gguf)
    tokenizer = transformers.AutoTokenizer.from_pretrained(alone.parent, gguf_file=alone.name)
    # transformers splits the words of every GGUF file as GPT-2 does. This is the published tokenizer.json's own way.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer
