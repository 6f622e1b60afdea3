"""A conversation to the one text that the model goes on from: the model's own Jinja template, in a sandbox."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox

from octavo_runtime.model.files import ModelFiles
from octavo_runtime.sampling_params import InvalidParameter
from octavo_runtime.tokenizer import Tokenizer, read_json, special_tokens
from octavo_runtime.tokenizer_conversion import TokenizerUnavailable, tokenizer_folder

Message = Mapping[str, Any]
"""`role` and `content`, as in OpenAI's chat requests; content is a string."""


class ChatTemplate:
    """Renders conversations as transformers' `apply_chat_template` does.

    source: the Jinja template; None for a model without one, which refuses every conversation.
    special_tokens: what the template may name, such as {"bos_token": "<s>"}."""

    def __init__(self, source: str | None, special_tokens: Mapping[str, str]) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _strftime_now
        self._special_tokens = special_tokens
        try:
            self._template = None if source is None else environment.from_string(source)
        except jinja2.TemplateError as error:
            raise TokenizerUnavailable(f"the model's chat template is not valid Jinja: {error}") from None

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The text of a conversation; with add_generation_prompt it ends where the assistant's answer begins.
        Raises InvalidParameter where the template refuses the messages."""
        if self._template is None:
            raise InvalidParameter("messages", "need a chat template, and this model has none; send a prompt instead")
        try:
            return self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except jinja2.TemplateError as error:
            raise InvalidParameter("messages", f"do not suit the model's chat template: {error}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InvalidParameter("messages", f"make the model's chat template fail: {error}") from None

    def encode(
        self, messages: Sequence[Message], tokenizer: Tokenizer, *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Token ids of a conversation. Special tokens' strings in its contents become ordinary tokens."""
        guarded = [
            {
                key: tokenizer.guard(value) if key != "role" and isinstance(value, str) else value
                for key, value in message.items()
            }
            for message in messages
        ]
        text = self.render(guarded, add_generation_prompt=add_generation_prompt)
        return tokenizer.encode(text, add_special_tokens=False)


def load_chat_template(files: ModelFiles) -> ChatTemplate:
    """The chat template of a model, from chat_template.jinja or tokenizer_config.json."""
    folder = tokenizer_folder(files)
    config = read_json(folder / "tokenizer_config.json")
    source = config.get("chat_template")
    if isinstance(source, list):  # several templates by name; the default one talks
        source = {entry["name"]: entry["template"] for entry in source}.get("default")
    if (folder / "chat_template.jinja").is_file():
        source = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return ChatTemplate(source, special_tokens(config))


class _Generation(jinja2.ext.Extension):
    """Accepts {% generation %}...{% endgeneration %}, with which templates mark the assistant's part for training."""

    tags = {"generation"}  # noqa: RUF012 (the name and type that Jinja defines)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    # Jinja's own filter escapes HTML, which would change the prompt.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
