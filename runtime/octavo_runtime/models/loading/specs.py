"""What a model's files say of it. Free of torch."""

from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.models.spec import ModelSpec


def spec_of(files: ModelFiles) -> ModelSpec:
    """The spec of a model, read without its weights. Raises UnsupportedModel."""
    if files.gguf is None:
        return spec_from_folder(files.folder)
    # Imported here: it takes some tenths of a second, which other models need not pay.
    from octavo_runtime.models.loading.gguf_parts import open_parts
    from octavo_runtime.models.loading.gguf_spec import gguf_spec

    return gguf_spec(open_parts(files.gguf))


def is_encoder(files: ModelFiles) -> bool:
    """Whether a model's files hold an encoder. Raises UnsupportedModel."""
    return files.gguf is None and spec_of(files).encoder is not None
