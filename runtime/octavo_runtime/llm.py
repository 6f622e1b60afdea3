"""Offline use: answers to a list of prompts, or their embeddings, in this very process."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo_runtime.config.keywords import engine_config
from octavo_runtime.engine.engine import Engine
from octavo_runtime.engine.offline import answer_all, embed_all
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.rerankers import template_of
from octavo_runtime.protocol.pooling import Pooling
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams
from octavo_runtime.text.answers import RequestOutput
from octavo_runtime.text.chat_template import load_chat_template
from octavo_runtime.text.pairs import activated, cosine, pair_tokens, unpacked
from octavo_runtime.text.prompt import Prompt, checked_text, listed, prompt_ids
from octavo_runtime.text.sampling_defaults import load_sampling_defaults
from octavo_runtime.text.tokenizer import load_tokenizer
from octavo_runtime.text.tokenizer_conversion import tokenizer_files

Message = Mapping[str, Any]


class LLM:
    """A model loaded in this process. Keyword arguments are EngineConfig's fields, by vLLM's names too; ValueError
    names a bad one. Threads may share it: their batches run one after another.

    default_params: what answers without parameters of their own are sampled with."""

    def __init__(self, model: str, **config: Any) -> None:
        self.config = engine_config(model, **config)
        files = locate(model)
        text = tokenizer_files(self.config, files)
        self.tokenizer = load_tokenizer(text)
        self._chat_template = load_chat_template(text, template_of(self.config))
        self.default_params = SamplingParams(**load_sampling_defaults(self.config, files))
        self._engine = Engine(self.config, files)
        self._ids = count()
        self._turn = Lock()  # a step's outputs are those of every batch that runs

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        priority: Sequence[int] | None = None,
    ) -> list[RequestOutput]:
        """Answers to text or token prompts, in their order; all of them run as one continuous batch.

        `sampling_params` holds for every prompt, or is a list of one for each. `use_tqdm`: show a bar of the progress
        of several, by rich. `priority`: a number for each prompt, for scheduling_policy priority. InvalidParameter when
        a prompt or parameter is out of bounds, a grammar that does not compile too; then nothing has run. What ends one
        prompt's answers later is its own output's `error`, and the others go on."""
        all_prompts = listed(prompts)
        ids = [prompt_ids(prompt, self.tokenizer) for prompt in all_prompts]
        results = self._run(ids, sampling_params, "prompts", use_tqdm=use_tqdm, priority=priority)
        for result, prompt in zip(results, all_prompts, strict=True):
            result.prompt = prompt if isinstance(prompt, str) else None
        return results

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
    ) -> list[RequestOutput]:
        """Answers to one conversation (a list of role and content messages) or to several, through the chat
        template; the rest as for generate. A content is text, or a list of parts of type text, as in OpenAI's requests.
        InvalidParameter where the template refuses them, or one has no role or another content."""
        given = _items(messages)
        several = [_messages(one) for one in ([given] if given and isinstance(given[0], Mapping) else given)]
        encoded = [self._chat_template.encode(conversation, self.tokenizer) for conversation in several]
        return self._run(encoded, sampling_params, "conversations", use_tqdm=use_tqdm)

    def embed(
        self,
        prompts: Prompt | Sequence[Prompt],
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        *,
        use_tqdm: bool = True,
    ) -> npt.NDArray[np.float32]:
        """The embeddings of text or token prompts, [prompts, hidden_size], in their order (see PoolingParams); all of
        them run as one continuous batch. InvalidParameter when a prompt or parameter is out of bounds; then nothing
        has run."""
        ids = self._named(prompt_ids(prompt, self.tokenizer) for prompt in listed(prompts))
        params = PoolingParams(pooling=pooling, normalize=normalize)
        with self._turn:
            embeddings = embed_all(self._engine, ids, [params] * len(ids), show=_is_shown(use_tqdm, len(ids)))
        flat = np.frombuffer(b"".join(embeddings), "<f4").astype(np.float32)
        return flat.reshape(len(ids), self._engine.ready.hidden_size)

    def score(
        self,
        first: str,
        second: str | Sequence[str],
        *,
        activate: bool = True,
        instruction: str | None = None,
        use_tqdm: bool = True,
    ) -> npt.NDArray[np.float64]:
        """How well each of the second texts answers the first, or how like it it is: by a model that scores pairs, else
        by the angle between vectors. activate: whether the model's activation makes the scores. instruction: what a
        model that reads pairs by a template is to judge by, in the place of its own. InvalidParameter when a text is
        too long or the model takes no instruction; ValueError where it has several labels."""
        first, task = checked_text("first", first), self._engine.ready.task
        several = [second] if isinstance(second, str) or not isinstance(second, Iterable) else second
        texts = [checked_text("second", text) for text in several]
        if instruction is not None and not task.templated:
            raise InvalidParameter("instruction", "must be left out: this model reads texts without a template")
        if task.task != "score":
            vectors = self.embed([first, *texts], normalize=True, use_tqdm=use_tqdm).astype(np.float64)
            return np.array([cosine(vectors[0], vector) for vector in vectors[1:]])
        if len(task.labels) != 1:
            raise ValueError(f"model: must have a single score, this one has {len(task.labels)} labels")
        pairs = [
            pair_tokens(self.tokenizer, self._chat_template, task, first, text, instruction=instruction)
            for text in texts
        ]
        named = self._named(tokens for tokens, _ in pairs)
        params = [PoolingParams(second_text=begin or None) for _, begin in pairs]
        with self._turn:
            numbers = embed_all(self._engine, named, params, show=_is_shown(use_tqdm, len(named)))
        activation = task.activation if activate else "identity"
        return np.array([activated(unpacked(one).tolist(), activation)[0] for one in numbers])

    def _run(
        self,
        prompts: list[list[int]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        what: str,
        *,
        use_tqdm: bool,
        priority: Sequence[int] | None = None,
    ) -> list[RequestOutput]:
        """what: the prompts' name, for an error of sampling_params."""
        many = sampling_params if isinstance(sampling_params, Sequence) else [sampling_params] * len(prompts)
        if len(many) != len(prompts):
            raise ValueError(f"sampling_params: must be one, or as many as the {len(prompts)} {what}, got {len(many)}")
        given = [self.default_params if one is None else one for one in many]
        if priority is not None:
            _check_priorities(priority, len(prompts))
        ids, show = self._named(prompts), _is_shown(use_tqdm, len(prompts))
        with self._turn:
            return answer_all(self._engine, self.tokenizer, ids, given, show=show, priorities=priority)

    def _named(self, prompts: Iterable[list[int]]) -> dict[str, list[int]]:
        """The prompts by a request id for each."""
        return {f"offline-{next(self._ids)}": prompt for prompt in prompts}


def _is_shown(use_tqdm: bool, count: int) -> bool:
    """Whether so many prompts show a bar."""
    if not isinstance(use_tqdm, bool):  # a class of tqdm's is none of the bars here
        raise InvalidParameter("use_tqdm", f"must be true or false, got {reprlib.repr(use_tqdm)}")
    return use_tqdm and count > 1


def _check_priorities(given: Sequence[int], count: int) -> None:
    """The engine has their bounds."""
    if not isinstance(given, Sequence) or not set(map(type, given)) <= {int}:
        raise InvalidParameter("priority", f"must be a list of integers, got {reprlib.repr(given)}")
    if len(given) != count:
        raise InvalidParameter("priority", f"must be as many as the {count} prompts, got {len(given)}")


def _items(given: Any) -> list[Any]:
    """The conversations or messages of a list, or of another iterable."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise InvalidParameter("messages", f"must be a list of messages, or of such lists, got {reprlib.repr(given)}")
    return list(given)


def _messages(given: Any) -> list[Message]:
    """Those of one conversation as chat templates read them: their text in one piece."""
    messages = _items(given)
    if not messages:
        raise InvalidParameter("messages", "must have at least 1 message in each conversation, got none")
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InvalidParameter("messages", f"must each have a role and a content, got {reprlib.repr(message)}")
    return [
        message if message.get("content") is None else {**message, "content": _text(message["content"])}
        for message in messages
    ]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, bytes | Mapping) or not isinstance(content, Sequence):
        raise InvalidParameter("messages", f"must have a content of text, or of parts, got {reprlib.repr(content)}")
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            got = f"one of type {kind!r:.100}" if kind not in (None, "text") else reprlib.repr(part)
            raise InvalidParameter("messages", f"must have parts of type text in their content, got {got}")
    return "".join(part["text"] for part in content)
