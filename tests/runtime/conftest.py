"""transformers' own tokenizer of the built-in model, to compare with."""

import pytest

from octavo_runtime.model.files import locate


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """Read from the GGUF file alone: transformers would take what `octavo prepare` laid beside it."""
    transformers = pytest.importorskip("transformers")
    gguf = locate("builtin://smollm2").gguf
    alone = tmp_path_factory.mktemp("gguf") / gguf.name
    alone.symlink_to(gguf)
    return transformers.AutoTokenizer.from_pretrained(alone.parent, gguf_file=alone.name)
