"""The form that a client wants its answer to have: OpenAI's response_format, vLLM's structured_outputs, and the names
that vLLM used before."""

import json
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from octavo_runtime.protocol.sampling_params import InvalidParameter, StructuredOutput
from octavo_runtime.server.fields.json_list import ListOf
from octavo_runtime.server.fields.text import Text, valid_value

Schema = Annotated[dict[str, Any], AfterValidator(valid_value)]


class AnswerForm(NamedTuple):
    """A form, and the field of the request that asked for it."""

    field: str
    output: StructuredOutput


class JsonSchemaFormat(BaseModel):
    """A JSON schema under a name. Every answer keeps to the schema, whatever `strict` says."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Text
    description: Text | None = None
    strict: bool | None = None
    schema_: Schema = Field(alias="schema")


class ResponseFormat(BaseModel):
    """OpenAI's response_format."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _schema_with_its_type(self) -> "ResponseFormat":
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is required with type json_schema")
        if self.type != "json_schema" and self.json_schema is not None:
            raise ValueError(f"json_schema cannot be combined with type {self.type}")
        return self

    def forms(self) -> list[AnswerForm]:
        """The form; none for text."""
        if self.json_schema is not None:
            return [_json("response_format.json_schema.schema", self.json_schema.schema_)]
        return [_form("response_format", json_object=True)] if self.type == "json_object" else []


class StructuredOutputs(BaseModel):
    """vLLM's structured_outputs: exactly one of these. `json`: a JSON schema, as an object or as text; `grammar`: Lark
    or EBNF text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    json_: Schema | Text | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: Text | None = None
    choice: ListOf[Text] | None = None
    grammar: Text | None = None

    def forms(self) -> list[AnswerForm]:
        """The form. Raises InvalidParameter."""
        given = {kind: getattr(self, name) for name, kind in _KINDS.items() if getattr(self, name) not in (None, False)}
        if "json" in given:
            given["json"] = _as_text("structured_outputs.json", given["json"])
        output = StructuredOutput(**given)
        [kind] = given
        return [AnswerForm(f"structured_outputs.{kind}", output)]


_KINDS = {"json_": "json", "json_object": "json_object", "regex": "regex", "choice": "choice", "grammar": "grammar"}


def guided(kind: Literal["json", "regex", "choice", "grammar"], value: Schema | str | list[str]) -> AnswerForm:
    """The form that vLLM's older field guided_<kind> asks for. Raises InvalidParameter."""
    return _json("guided_json", value) if kind == "json" else _form(f"guided_{kind}", **{kind: value})


def _json(field: str, schema: Any) -> AnswerForm:
    return _form(field, json=_as_text(field, schema))


def _form(field: str, **kind: Any) -> AnswerForm:
    try:
        return AnswerForm(field, StructuredOutput(**kind))
    except InvalidParameter as error:
        raise InvalidParameter(field, error.reason) from None


def _as_text(field: str, schema: Any) -> str:
    try:
        return schema if isinstance(schema, str) else json.dumps(schema)
    except RecursionError:
        raise InvalidParameter(field, "must be nested less deep") from None
