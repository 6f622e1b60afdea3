"""What is read of a config.json, what stands in for what it leaves out, and what is refused by name."""

import json
import math

import pytest
import torch
from transformers import (
    Cohere2Config,
    CohereConfig,
    Ernie4_5Config,
    Gemma2Config,
    Gemma3TextConfig,
    Glm4Config,
    GlmConfig,
    GraniteConfig,
    LlamaConfig,
    MinistralConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SeedOssConfig,
    SmolLM3Config,
    StableLmConfig,
    Starcoder2Config,
)

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers.rope_scaling import LinearRope, Llama3Rope, LongRope
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.config_json import spec_from_config, spec_from_folder
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.models.spec import UnsupportedModel

GEMMA = {"model_type": "gemma3_text"}
PICTURES = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"}
SLIDING = ["sliding_attention"] * 2
LLAMA = {"architectures": ["LlamaForCausalLM"]}
LONG = {"short_factor": [1.0] * 64, "long_factor": [2.0] * 64}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    "theirs",
    [
        LlamaConfig(),
        MistralConfig(),
        Qwen2Config(),
        Qwen3Config(),
        SeedOssConfig(),
        SmolLM3Config(),
        GraniteConfig(),
        Gemma2Config(),
        Gemma3TextConfig(),
        MinistralConfig(),
        Phi3Config(),
        Olmo2Config(),
        GlmConfig(),
        Glm4Config(),
        Ernie4_5Config(),
        CohereConfig(),
        Cohere2Config(),
        Starcoder2Config(),
        StableLmConfig(),
    ],
)
def test_what_is_left_out_has_transformers_default(theirs):
    spec = spec_from_config({"model_type": theirs.model_type})
    assert spec.max_position == theirs.max_position_embeddings
    every = theirs.num_hidden_layers * ["sliding_attention" if theirs.model_type == "mistral" else "full_attention"]
    kinds = getattr(theirs, "layer_types", every)
    assert spec.windowed_layers == {layer for layer, kind in enumerate(kinds) if kind == "sliding_attention"}
    assert spec.window == getattr(theirs, "sliding_window", None)
    assert (spec.vocab_size, spec.hidden_size) == (theirs.vocab_size, theirs.hidden_size)
    assert spec.head_dim == (getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads)
    assert spec.intermediate_size == theirs.intermediate_size
    assert spec.num_layers == theirs.num_hidden_layers
    assert (spec.num_heads, spec.num_kv_heads) == (theirs.num_attention_heads, theirs.num_key_value_heads)
    assert spec.logits_divisor == 1 / getattr(theirs, "logit_scale", 1.0)
    ropes = theirs.rope_parameters
    thetas = ropes.get("full_attention", ropes)["rope_theta"], ropes.get("sliding_attention", {}).get("rope_theta")
    assert (spec.rope_theta, spec.windowed_rope_theta) == thetas
    assert spec.rotated == spec.head_dim * ropes.get("partial_rotary_factor", 1.0)
    [eps] = [
        getattr(theirs, name) for name in ("rms_norm_eps", "layer_norm_eps", "norm_epsilon") if hasattr(theirs, name)
    ]
    assert spec.rms_norm_eps == eps
    assert spec.attention_softcap == getattr(theirs, "attn_logit_softcapping", None)
    assert spec.logits_softcap == getattr(theirs, "final_logit_softcapping", None)
    assert spec.tie_embeddings == theirs.tie_word_embeddings
    everywhere = getattr(theirs, "use_bias", False)
    assert spec.qkv_bias == getattr(theirs, "attention_bias", theirs.model_type == "qwen2" or everywhere)
    assert spec.output_bias == (spec.qkv_bias and theirs.model_type not in ("qwen2", "seed_oss", "glm", "glm4"))
    assert spec.mlp_bias == getattr(theirs, "mlp_bias", everywhere)
    turned = getattr(theirs, "no_rope_layers", None) or [1] * theirs.num_hidden_layers
    if theirs.model_type == "cohere2":
        turned = [kind == "sliding_attention" for kind in kinds]
    assert spec.unrotated_layers == {layer for layer, turns in enumerate(turned) if not turns}
    assert spec.rope_scaling is None


def test_rope_fields_are_read_wherever_they_stand():
    older = spec_from_config({**LLAMA, "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}})
    newer = spec_from_config({**LLAMA, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}})
    assert older == newer
    assert older.rope_scaling == LinearRope(2.0)
    lacking = spec_from_config({**LLAMA, "max_position_embeddings": 512, "rope_scaling": LLAMA3})
    assert lacking.rope_scaling == Llama3Rope(8.0, 1.0, 4.0, 512)
    apart = {**LLAMA, "original_max_position_embeddings": 64, "rope_scaling": LLAMA3}
    assert spec_from_config(apart).rope_scaling == Llama3Rope(8.0, 1.0, 4.0, 64)


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        ({"model_type": "mistral", "sliding_window": 100}, [100, 100, 100]),
        ({"model_type": "mistral", "sliding_window": None}, [None, None, None]),
        ({"model_type": "mistral"}, [4096, 4096, 4096]),
        ({"model_type": "mistral", "max_position_embeddings": 4096}, [None, None, None]),
        ({"model_type": "ministral", "sliding_window": 9, "layer_types": ["full_attention", *SLIDING]}, [None, 9, 9]),
        ({"model_type": "qwen2", "max_window_layers": 1}, [None, None, None]),
        ({"model_type": "qwen2", "max_window_layers": 1, "use_sliding_window": True}, [None, 4096, 4096]),
        ({"model_type": "qwen3", "use_sliding_window": True}, [None, None, None]),
        ({"model_type": "llama", "sliding_window": 100}, [None, None, None]),
        ({"model_type": "gemma2"}, [4096, None, 4096]),
        ({"model_type": "cohere2", "sliding_window_pattern": 3}, [4096, 4096, None]),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 2}, [4096, None, 4096]),
    ],
)
def test_which_layers_see_a_window(config, windows):
    spec = spec_from_config({"num_hidden_layers": 3, **config})
    assert [spec.window_of(layer) for layer in range(3)] == windows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer_types": SLIDING}, r"layer_types must have num_hidden_layers \(3\) entries, got 2"),
        ({"layer_types": [*SLIDING, "chunked_attention"]}, "layer_types must be of .*, got chunked_attention"),
        (
            {"layer_types": [*SLIDING, *SLIDING[:1]], "sliding_window": None},
            "sliding_window must be given .*, got none",
        ),
    ],
)
def test_kinds_of_layers_that_cannot_be_are_refused(change, words):
    with pytest.raises(UnsupportedModel, match=words):
        spec_from_config({"model_type": "ministral", "num_hidden_layers": 3, **change})


def test_both_ropes_of_gemma_3_are_read_in_the_old_form_and_in_the_new():
    gemma = {"model_type": "gemma3_text"}
    scaled = {"rope_type": "linear", "factor": 8.0}
    older = {"rope_theta": 1e5, "rope_local_base_freq": 500.0, "rope_scaling": scaled}
    full, sliding = {**scaled, "rope_theta": 1e5}, {"rope_type": "default", "rope_theta": 500.0}
    newer = {"rope_parameters": {"full_attention": full, "sliding_attention": sliding}}
    assert spec_from_config({**gemma, **older}) == spec_from_config({**gemma, **newer})
    assert spec_from_config({**gemma, **older}).rope_scaling == LinearRope(8.0)
    with pytest.raises(UnsupportedModel, match="sliding_attention must be of rope type default"):
        spec_from_config({**gemma, "rope_parameters": {"sliding_attention": full}})
    with pytest.raises(UnsupportedModel, match="sliding_attention must be an object, got 5"):
        spec_from_config({**gemma, "rope_parameters": {"sliding_attention": 5}})


def test_longrope_has_numbers_for_requests_within_the_original_context_and_for_longer_ones():
    phi = {"model_type": "phi3", "hidden_size": 128, "num_attention_heads": 1, "max_position_embeddings": 131_072}
    spec = spec_from_config({**phi, "rope_scaling": {"type": "su", **LONG}})
    assert spec.max_position == 131_072
    assert isinstance(spec.rope_scaling, LongRope)
    assert spec.rope_scaling.for_requests(4096).divisors == (1.0,) * 64
    assert spec.rope_scaling.for_requests(4097).divisors == (2.0,) * 64
    assert spec.rope_scaling.divisors == (1.0,) * 64
    assert spec.rope_scaling.attention_factor == pytest.approx((1 + math.log(32) / math.log(4096)) ** 0.5)
    assert spec == spec_from_config({**phi, "rope_parameters": {"rope_type": "longrope", **LONG}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"partial_rotary_factor": 0.34}, r"must make an even part of head_dim \(128\), got 43"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor: .*less than or equal to 1, got 1.5"),
        ({"rope_parameters": {"partial_rotary_factor": "half"}}, "must be above 0 and at most 1, got half"),
        ({"rope_parameters": {"partial_rotary_factor": -1}}, "must be above 0 and at most 1, got -1"),
    ],
)
def test_parts_of_a_head_that_cannot_be_turned_are_refused(change, words):
    with pytest.raises(UnsupportedModel, match=words):
        spec_from_config({"model_type": "glm", **change})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "cohere2", "use_qk_norm": True}, "use_qk_norm must be unset or False, got True"),
        ({"model_type": "cohere2", "sliding_window": None}, "sliding_window must be given, got none"),
        ({"model_type": "stablelm", "qk_norm": True}, "qk_norm must be unset or False, got True"),
        ({"model_type": "starcoder2", "hidden_act": "gelu"}, "hidden_act must be gelu_pytorch_tanh, got gelu"),
    ],
)
def test_what_families_with_layer_norms_do_not_have_is_refused(config, words):
    with pytest.raises(UnsupportedModel, match=words):
        spec_from_config(config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_activation": "silu"}, "hidden_activation must be gelu_pytorch_tanh, got silu"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention must be unset or False, got True"),
        ({"sliding_window": None}, "sliding_window must be given, got none"),
        ({"attn_logit_softcapping": 0}, "attn_logit_softcapping: .*greater than 0, got 0"),
    ],
)
def test_what_gemma_does_not_have_is_refused(change, words):
    with pytest.raises(UnsupportedModel, match=words):
        spec_from_config({"model_type": "gemma2", **change})


def test_fields_that_change_nothing_are_passed_over():
    config = {
        **LLAMA,
        "torch_dtype": "bfloat16",
        "rope_interleaved": False,
        "pretraining_tp": 4,
        "attention_dropout": 0.1,
    }
    unset = {"quantization_config": None, "logit_scale": 1.0, "num_experts": 0, "is_llama_config": True}
    assert spec_from_config({**config, **unset}) == spec_from_config(LLAMA)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["MambaForCausalLM"]}, r"must be one of .*, Llama, .* \(ForCausalLM\), .*, got MambaFor"),
        ({"architectures": ["Qwen3NextForCausalLM"]}, "NextForCausalLM; the nearest name that is served is Qwen3For"),
        ({"architectures": ["Gemma3nForConditionalGeneration"]}, "nearest name that is served is Gemma3ForCausalLM$"),
        ({"architectures": ["JambaForCausalLM"]}, "got JambaForCausalLM$"),
        ({"architectures": None}, "architecture must be one of .*, got unknown"),
        ({"architectures": [[1]]}, r"architecture must be one of .*, got \[1\]"),
        ({"hidden_act": "gelu"}, "hidden_act must be silu, got gelu"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: .*greater than or equal to 1, got 0"),
        ({"num_hidden_layers": -5}, "num_hidden_layers: .*greater than or equal to 1, got -5"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: .*less than or equal to 4096, got 1000000000"),
        ({"num_nextn_predict_layers": 10**7}, "num_nextn_predict_layers: .*less than or equal to 4096, got 10000000"),
        ({"max_position_embeddings": 0}, "max_position_embeddings: .*greater than or equal to 1, got 0"),
        ({"vocab_size": [1]}, r"vocab_size: .*valid integer, got \[1\]"),
        ({"vocab_size": 0}, "vocab_size: .*greater than or equal to 1, got 0"),
        ({"vocab_size": True}, "vocab_size: .*valid integer, got True"),
        ({"hidden_size": "4096"}, "hidden_size: .*valid integer, got '4096'"),
        ({"num_attention_heads": 0}, "num_attention_heads: .*greater than or equal to 1, got 0"),
        ({"num_attention_heads": -4}, "num_attention_heads: .*greater than or equal to 1, got -4"),
        ({"num_attention_heads": 31}, r"num_attention_heads must divide hidden_size \(4096\), got 31"),
        ({"num_key_value_heads": -2}, "num_key_value_heads: .*greater than or equal to 1, got -2"),
        ({"num_key_value_heads": 3}, r"num_key_value_heads must divide num_attention_heads \(32\), got 3"),
        ({"head_dim": 15}, "head_dim must be even, got 15"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps: .*finite number, got nan"),
        ({"rms_norm_eps": None}, "rms_norm_eps: .*valid number, got None"),
        ({"rope_theta": 0}, "rope_theta: .*greater than 0, got 0"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings: .*valid boolean, got 'yes'"),
        ({"rope_parameters": "linear"}, "rope_parameters: .*dictionary, got 'linear'"),
        ({"rope_scaling": {"rope_type": "dynamic"}}, "rope type must be one of default, .*longrope, got dynamic"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling.factor must be given for rope type yarn"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling.factor must be given for rope type linear"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "rope_scaling.factor: .*greater than 0, got 0"),
        ({"rope_scaling": {"type": "longrope", "factor": 4.0}}, "short_factor and long_factor must be given"),
        ({"rope_scaling": {"type": "su", **LONG, "short_factor": [1.0]}}, "short_factor must hold 64 .*, got 1"),
        ({"rope_scaling": {"type": "su", **LONG, "long_factor": [1.0]}}, "long_factor must hold 64 .*, got 1"),
        ({"rope_scaling": {"type": "su", **LONG, "long_factor": [0]}}, "long_factor.0: .*greater than 0, got 0"),
        ({"rope_scaling": {"type": "default", "mrope_section": [1]}}, "rope_scaling.mrope_section: unknown field"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor must be 1, got 0.5"),
        ({"rope_scaling": {**LLAMA3, "low_freq_factor": 4.0}}, "must be below high_freq_factor, got 4.0 and 4.0"),
        ({"quantization_config": {"quant_method": "hqq"}}, "quant_method must be one of awq, .*, got 'hqq'"),
        ({"quantization_config": "fp8"}, "quantization_config: input should be a valid dictionary, got 'fp8'"),
        ({"compression_config": {"format": "int"}}, "config_groups must be an object of groups, got None"),
        ({"logits_scaling": 16}, "logits_scaling must be unset or 1, got 16"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping must be unset, got 50.0"),
        ({"partial_rotary_factor": 0.25}, "partial_rotary_factor must be unset or 1, got 0.25"),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_refused_by_field_bound_and_value(change, words):
    with pytest.raises(UnsupportedModel, match=words) as error:
        spec_from_config({**LLAMA, **change})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_infinity_as_python_writes_it_is_read(tmp_path):
    specs = []
    for limit in (1.0, float("inf")):
        (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "time_step_limit": [0.0, limit]}))
        specs.append(spec_from_folder(tmp_path))
    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "must be an object, got list"),
        ("{", "is not JSON"),
        ("[" * 100_000, "must be nested less deep"),
        ('{"vocab_size": ' + "9" * 5000 + "}", "is not JSON"),
        ("\xff", "is not JSON"),
        ('{"model_type": "\\ud800"}', "is not JSON"),
        (json.dumps({**LLAMA, "eos_token_id": "</s>"}), "eos_token_id must be token ids, got '</s>'"),
        (json.dumps({**LLAMA, "eos_token_id": [1, -1]}), r"eos_token_id must be token ids, got \[1, -1\]"),
    ],
)
def test_a_broken_file_is_named(text, words, tmp_path):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UnsupportedModel, match=rf"{tmp_path}/config\.json: .*{words}"):
        spec_from_folder(tmp_path)


TOKENS = {"added_tokens": [{"id": 7, "content": "<|im_end|>", "special": True}]}
DECODER = {"3": {"content": "</s>"}}


@pytest.mark.parametrize(
    ("config", "generation", "tokenizer", "ends"),
    [
        ({}, None, {}, (2,)),
        ({"eos_token_id": None}, None, {}, ()),
        ({"eos_token_id": 5}, None, {}, (5,)),
        ({"eos_token_id": 5}, {"eos_token_id": [8, 9]}, {}, (8, 9)),
        ({**PICTURES, "text_config": {**GEMMA, "eos_token_id": 4}}, None, {}, (4,)),
        ({"eos_token_id": 5}, {"eos_token_id": None}, {}, (5,)),
        ({"eos_token_id": None}, {}, {"eos_token": "<|im_end|>"}, (7,)),
        ({"eos_token_id": 5}, None, {"eos_token": {"content": "</s>"}, "added_tokens_decoder": DECODER}, (5, 3)),
        ({"eos_token_id": 5}, None, {"eos_token": "<gone>"}, (5,)),
    ],
)
def test_end_tokens_are_those_of_the_configuration_and_the_tokenizers_own(
    config, generation, tokenizer, ends, tmp_path
):
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **config}))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENS))
    assert spec_from_folder(tmp_path).eos_token_ids == ends


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a":' * 100_000])
def test_a_broken_tokenizer_names_no_end_token(text, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "eos_token_id": 5}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    (tmp_path / "tokenizer.json").write_text(text)
    assert spec_from_folder(tmp_path).eos_token_ids == (5,)


@pytest.mark.parametrize(
    ("tokenizer", "ends"),
    [
        ({"tokenizer_config.json": {"eos_token": "<|im_end|>"}, "generation_config.json": {"eos_token_id": 9}}, (5, 7)),
        ({"tokenizer_config.json": {}}, (5,)),
    ],
)
def test_the_end_token_of_another_tokenizer_ends_answers_too(tokenizer, ends, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name, content in ({"tokenizer.json": TOKENS, "config.json": {}} | tokenizer).items():
        (other / name).write_text(json.dumps(content))
    assert loaded_ends(tmp_path, str(other)) == ends


def test_the_end_tokens_of_a_gguf_files_tokenizer_end_answers_too(tmp_path):
    assert loaded_ends(tmp_path, "builtin://smollm2") == (5, 2, 0)


def loaded_ends(folder, tokenizer):
    sizes = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "eos_token_id": 5}
    (folder / "config.json").write_text(json.dumps({**LLAMA, **sizes, **heads}))
    config = EngineConfig(model=str(folder), tokenizer=tokenizer, load_format="dummy")
    return load_model(config, ModelFiles("m", folder, None), torch.device("cpu"), torch.float32).spec.eos_token_ids


def test_layers_without_a_rotary_embedding_are_as_many_as_layers():
    config = {"architectures": ["SmolLM3ForCausalLM"], "num_hidden_layers": 2, "no_rope_layers": [1]}
    with pytest.raises(UnsupportedModel, match=r"no_rope_layers must have num_hidden_layers \(2\) entries, got 1"):
        spec_from_config(config)
