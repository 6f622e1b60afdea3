"""Text that a client sends."""

from typing import Annotated

from pydantic import AfterValidator


def valid_unicode(text: str) -> str:
    """`text` itself; ValueError where it has half a surrogate pair, which JSON can spell and no tokenizer takes."""
    # pydantic lets it pass inside unions.
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"must be valid Unicode, has half a surrogate pair at character {error.start}") from None
    return text


Text = Annotated[str, AfterValidator(valid_unicode)]
