"""Tiny random encoders against transformers in float32, whole texts of many lengths in few steps."""

import json

import numpy as np
import pytest
import torch
from encoder_models import ENCODERS, save_encoder, write_json
from small_models import random_prompts as any_prompts

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.models.loading.checkpoint import load_encoder
from octavo_runtime.models.loading.config_json import spec_from_config, spec_from_folder
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.sentence_modules import read_modules, read_prompts
from octavo_runtime.models.loading.text_task import text_task
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.planning.memory import plan_memory
from octavo_runtime.planning.parameters import parameter_count, weight_bytes
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams

LENGTHS = (1, 2, 64, 33, 17, 5, 64)
POOLINGS = ("mean", "cls", "last", "max")


def random_prompts(*lengths: int) -> list[list[int]]:
    """None of a token that transformers counts as padding."""
    return [[max(token, 5) for token in prompt] for prompt in any_prompts(*lengths)]


def engine_of(folder, **settings) -> Engine:
    # A budget below the longest text: that one goes alone, and never in pieces.
    asked = {"device": "cpu", "dtype": "float32", "max_num_seqs": 8, "max_num_batched_tokens": 40, **settings}
    return Engine(EngineConfig(model=str(folder), **asked))


def read(engine: Engine, prompts, *params: PoolingParams) -> list[np.ndarray]:
    for number, (prompt, how) in enumerate((prompt, how) for prompt in prompts for how in params):
        engine.add_embedding(str(number), prompt, how)
    found: dict[int, np.ndarray] = {}
    while engine.has_work:
        for output in engine.step():
            assert output.error is None
            found[int(output.request_id)] = np.frombuffer(output.embedding, "<f4")
    engine.check_integrity()
    assert engine.load.blocks_used == engine.load.blocks_total == 0
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize("name", ENCODERS)
@torch.inference_mode()
def test_states_equal_transformers(name, tmp_path):
    theirs, prompts = save_encoder(name, tmp_path), random_prompts(*LENGTHS)
    hows = [PoolingParams(pooling=pooling, normalize=False) for pooling in POOLINGS]
    found = iter(read(engine_of(tmp_path), prompts, *hows))
    for prompt in prompts:
        states = theirs(torch.tensor([prompt])).last_hidden_state[0]
        for expected in (states.mean(0), states[0], states[-1], states.amax(0)):
            np.testing.assert_allclose(next(found), expected.numpy(), rtol=0, atol=1e-5 * float(states.abs().max()))


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "bert, relu"])
@torch.inference_mode()
def test_scores_equal_transformers(name, tmp_path):
    theirs, [prompt] = save_encoder(name, tmp_path, labels=3), random_prompts(20)
    types = {"token_type_ids": torch.tensor([[0] * 12 + [1] * 8])} if name in ("bert", "electra") else {}
    expected = theirs(torch.tensor([prompt]), **types).logits[0]
    [found] = read(engine_of(tmp_path), [prompt], PoolingParams(second_text=12))
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_texts_wait_for_a_step_that_has_room_for_all_of_them(tmp_path):
    save_encoder("bert", tmp_path)
    engine = engine_of(tmp_path)
    for number, prompt in enumerate(random_prompts(30, 20, 5, 64)):
        engine.add_embedding(str(number), prompt, PoolingParams())
    ended = []
    while engine.has_work:
        ended.append([output.request_id for output in engine.step()])
    assert ended == [["0"], ["1", "2"], ["3"]]


def test_what_the_model_has_no_room_for_is_refused_and_it_generates_nothing(tmp_path):
    save_encoder("xlm-roberta", tmp_path)
    engine = engine_of(tmp_path)
    assert engine.ready.max_model_len == 64  # of 66 positions the first two are never a token's
    with pytest.raises(InvalidParameter, match="at most 64 tokens, got 65"):
        engine.add_embedding("long", random_prompts(65)[0], PoolingParams())
    with pytest.raises(InvalidParameter, match="must be one that generates text"):
        engine.add_request("no", [5], SamplingParams())
    with pytest.raises(InvalidParameter, match="dimensions must be at most 48, got 49"):
        engine.add_embedding("wide", [5], PoolingParams(dimensions=49))
    with pytest.raises(ValueError, match="max_model_len: must be at most 64"):
        engine_of(tmp_path, max_model_len=65)


def test_fewer_numbers_are_scaled_to_length_one(tmp_path):
    save_encoder("bert", tmp_path)
    engine, prompts = engine_of(tmp_path), random_prompts(9)
    plain, cut = read(engine, prompts, PoolingParams(normalize=False), PoolingParams(dimensions=6))
    np.testing.assert_allclose(cut, plain[:6] / np.linalg.norm(plain[:6]), rtol=1e-5)


@pytest.mark.parametrize("labels", [None, 3])
@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert", "modernbert, biased"])
def test_the_plan_knows_every_byte(name, labels, tmp_path):
    save_encoder(name, tmp_path, labels=labels)
    spec, config = spec_from_folder(tmp_path), EngineConfig(model=str(tmp_path), dtype="float32")
    encoder = load_encoder(config, locate(str(tmp_path)), torch.device("cpu"), torch.float32)
    assert weight_bytes(spec, 4, "cpu") == encoder.num_bytes
    for device in ("cpu", "cuda"):
        plan = plan_memory(spec, config, 2**32, device)
        assert (plan.num_blocks, plan.kv_cache_bytes, plan.max_model_len, plan.problem) == (0, 0, 64, None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type must be absolute, got relative_key"),
        ({"is_decoder": True}, "is_decoder must be false"),
        ({"hidden_act": "mish"}, "hidden_act must be one of gelu, .*, got mish"),
        ({"hidden_size": 50, "num_attention_heads": 3}, r"num_attention_heads must divide hidden_size \(50\), got 3"),
    ],
)
def test_other_arithmetic_is_refused(changed, said):
    with pytest.raises(UnsupportedModel, match=said):
        spec_from_config({"architectures": ["BertModel"], **changed})


@pytest.mark.parametrize(
    ("architecture", "changed", "said"),
    [
        ("ElectraModel", {}, r"embedding_size must be hidden_size \(256\), got 128"),
        ("ModernBertModel", {"hidden_activation": "relu"}, "a gate's activation must be silu, gelu_tanh or gelu"),
        ("ModernBertModel", {"hidden_activation": "mish"}, "hidden_activation must be one of gelu, .*, got mish"),
        ("ModernBertModel", {"num_attention_heads": 7}, r"num_attention_heads must divide hidden_size \(768\), got 7"),
        ("ModernBertModel", {"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling must be unset, got"),
        ("ModernBertModel", {"sliding_window": 8}, r"sliding_window must be half of local_attention \(64\), got 8"),
        ("ModernBertForSequenceClassification", {"classifier_pooling": "max"}, "classifier_pooling must be one of cls"),
        ("ModernBertForSequenceClassification", {"classifier_activation": "silu"}, "classifier_activation must be one"),
    ],
)
def test_other_forms_of_encoders_are_refused(architecture, changed, said):
    with pytest.raises(UnsupportedModel, match=said):
        spec_from_config({"architectures": [architecture], **changed})


def test_modernbert_as_on_the_hub():
    older = {
        "architectures": ["ModernBertForMaskedLM"],
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160_000.0,
        "local_rope_theta": 9_000.0,
        "local_attention": 128,
        "position_embedding_type": "absolute",
    }
    newer = {
        "architectures": ["ModernBertModel"],
        "layer_types": ["sliding_attention" if layer % 3 else "full_attention" for layer in range(22)],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 160_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 9_000.0},
        },
    }
    spec = spec_from_config(older)
    assert spec == spec_from_config(newer)
    assert (spec.rope_theta, spec.windowed_rope_theta, spec.window_of(0), spec.window_of(1)) == (160e3, 9e3, None, 65)
    assert parameter_count(spec) == 149_014_272


def modules(folder, *kinds: str) -> None:
    at = "sentence_transformers.models"
    listed = [{"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"{at}.{kind}"}
              for n, kind in enumerate(kinds)]  # fmt: skip
    write_json(folder / "modules.json", listed)


@pytest.mark.parametrize(
    ("pooling", "said"),
    [
        ({"pooling_mode_weightedmean_tokens": True}, "pooling_mode must be one of mean, cls, max, lasttoken"),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, "pooling_mode must be one of"),
        ({"pooling_mode": ["mean", "cls"]}, "pooling_mode must be one of"),
        ({"pooling_mode": [["mean"]]}, "pooling_mode must be one of"),
        ({"include_prompt": False}, "include_prompt must be true"),
    ],
)
def test_pooling_that_is_not_understood_is_refused(pooling, said, tmp_path):
    modules(tmp_path, "Transformer", "Pooling")
    write_json(tmp_path / "1_Pooling" / "config.json", pooling)
    with pytest.raises(UnsupportedModel, match=said):
        read_modules(tmp_path)


@pytest.mark.parametrize("default", ["answer", ["query"], {"query": 1}])
def test_a_default_prompt_that_is_none_is_refused(default, tmp_path):
    write_json(
        tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "q"}, "default_prompt_name": default}
    )
    with pytest.raises(UnsupportedModel, match="default_prompt_name must be one of the prompts"):
        read_prompts(tmp_path)


@pytest.mark.parametrize("path", ["../other", "/other", "..", 7])
def test_modules_of_other_folders_are_refused(path, tmp_path):
    types = [
        {"path": at, "type": f"sentence_transformers.models.{kind}"}
        for at, kind in (("", "Transformer"), (path, "Pooling"))
    ]
    write_json(tmp_path / "modules.json", types)
    with pytest.raises(UnsupportedModel, match="paths must name folders beside it, got"):
        read_modules(tmp_path)


@pytest.mark.parametrize("kinds", [("Pooling",), ("Transformer", "Normalize"), ("Transformer", "Pooling", "LSTM")])
def test_modules_that_are_not_understood_are_refused(kinds, tmp_path):
    modules(tmp_path, *kinds)
    write_json(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    with pytest.raises(UnsupportedModel, match=r"modules.json: must"):
        read_modules(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "extra", "task"),
    [
        ("BertModel", {}, ("embed", "mean", "sigmoid", 0)),
        ("BertForSequenceClassification", {"id2label": {"0": "no"}}, ("score", "cls", "sigmoid", 1)),
        ("BertForSequenceClassification", {}, ("score", "cls", "softmax", 2)),
        (
            "XLMRobertaForSequenceClassification",
            {"num_labels": 1, "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
            ("score", "cls", "identity", 1),
        ),
    ],
)
def test_the_architecture_says_what_a_model_is_for(architecture, extra, task, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture], **extra}))
    found = text_task(tmp_path, spec_from_folder(tmp_path), None)
    assert (found.task, found.pooling, found.activation, len(found.labels)) == task
