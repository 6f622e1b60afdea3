"""How alike two texts are, or how well one answers the other: by a model that reads both at once, or by the angle
between their vectors."""

from collections.abc import Sequence
from typing import NamedTuple

from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import InvalidParameter
from octavo_runtime.server.generation.bounds import check_prompt, check_text, cut_to, read_tokens
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.generation.vectors import Place, Reading, read_all
from octavo_runtime.server.http.errors import invalid, invalid_parameter
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.text.pairs import Numbers, activated, cosine, pair_tokens, unpacked


class Texts(NamedTuple):
    """The texts of one side. field: of the request, that holds them; single: whether it names one text, not a list;
    prompts: names of the model's prompts, of which the first that it has stands in front of each."""

    texts: Sequence[str]
    field: str
    single: bool
    prompts: tuple[str, ...] = ()

    def name(self, index: int) -> str:
        """The path of one of them."""
        return self.field if self.single else f"{self.field}.{index}"


class Scores(NamedTuple):
    """tokens: all that were read."""

    values: list[float]
    tokens: int


INSTRUCTION = "What a model that reads pairs by a template is to judge by. Default: the model's own instruction."


class Wish(NamedTuple):
    """What a request says of all its pairs. truncate: see TruncateTo. activate: whether the model's activation makes
    the scores, rather than that the bare numbers are wanted. instruction: what a template asks by; None: the model's
    own."""

    truncate: int | None
    activate: bool
    priority: int
    instruction: str | None


async def score_pairs(state: ServerState, model: ServedModel, first: Texts, second: Texts, wish: Wish) -> Scores:
    """A score for each of the second texts beside its first one, or beside the only first one. Raises ApiError."""
    if wish.instruction is not None and not model.task.templated:
        raise invalid("instruction", "must be left out: this model reads texts without a template")
    if model.task.task == "score":
        return await _read_together(state, model, first, second, wish)
    return await _compared(state, model, first, second, wish)


async def _read_together(state: ServerState, model: ServedModel, first: Texts, second: Texts, wish: Wish) -> Scores:
    if len(model.task.labels) != 1:
        raise invalid("model", f"must be one with a single score, this one has {len(model.task.labels)} labels")
    readings = await in_thread(_pairs, model, first, second, wish)

    def score(_: int, vector: bytes) -> float:
        [value] = activated(unpacked(vector).tolist(), model.task.activation if wish.activate else "identity")
        return value

    values = await read_all(state, model, readings, Place(wish.priority, "", second.field), score)
    return Scores(values, sum(len(one.tokens) for one in readings))


def _pairs(model: ServedModel, first: Texts, second: Texts, wish: Wish) -> list[Reading]:
    most, readings = cut_to(model, wish.truncate), []
    _check_texts(model, first, most)
    _check_texts(model, second, most)
    check_text(model, len(wish.instruction or ""), "instruction", most)
    for index, document in enumerate(second.texts):
        query = first.texts[0] if len(first.texts) == 1 else first.texts[index]
        try:
            tokens, begin = pair_tokens(
                model.tokenizer,
                model.template,
                model.task,
                query,
                document,
                most=most,
                instruction=wish.instruction,
            )
        except InvalidParameter as error:
            raise invalid_parameter(error.field, error.reason) from None
        check_prompt(model, tokens, second.name(index), answered=False)
        readings.append(Reading(tokens, PoolingParams(second_text=begin or None)))
    return readings


async def _compared(state: ServerState, model: ServedModel, first: Texts, second: Texts, wish: Wish) -> Scores:
    readings = await in_thread(lambda: [*_alone(model, first, wish), *_alone(model, second, wish)])
    vectors = await read_all(state, model, readings, Place(wish.priority, "", second.field), _numbers)
    queries, documents = vectors[: len(first.texts)], vectors[len(first.texts) :]
    queries = queries * len(documents) if len(queries) == 1 else queries
    values = [cosine(one, other) for one, other in zip(queries, documents, strict=True)]
    return Scores(values, sum(len(one.tokens) for one in readings))


def _numbers(_: int, vector: bytes) -> Numbers:
    return unpacked(vector)


def _alone(model: ServedModel, side: Texts, wish: Wish) -> list[Reading]:
    most, readings, prompts = cut_to(model, wish.truncate), [], model.task.prompts
    front = next((prompts[name] for name in side.prompts if name in prompts), "")
    _check_texts(model, side, most)
    for index, text in enumerate(side.texts):
        tokens = read_tokens(model, text, True, most, front)
        check_prompt(model, tokens, side.name(index), answered=False)
        readings.append(Reading(tokens, PoolingParams()))
    return readings


def _check_texts(model: ServedModel, side: Texts, most: int | None) -> None:
    for index, text in enumerate(side.texts):
        check_text(model, len(text), side.name(index), most)
