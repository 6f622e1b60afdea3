"""GGUF files of each supported type, against the same weights in transformers."""

import gguf
import numpy as np
import pytest
import torch
from random_gguf import CONFIG, random_model, write
from transformers import Gemma3TextConfig, MistralConfig, Qwen2Config, Qwen3Config

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.layers.rotary import RotaryEmbedding
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.gguf_file import GGUFFile
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONG = torch.randint(0, 160, (100,), generator=torch.Generator().manual_seed(1)).tolist()


def greedy(path, prompt: list[int]) -> list[int]:
    engine = Engine(EngineConfig(model=str(path), device="cpu", dtype="float32", kv_cache_memory="8Mi"))
    engine.add_request("r", prompt, SamplingParams(temperature=0.0, max_tokens=16, ignore_eos=True))
    tokens = []
    while engine.has_work:
        tokens += [token for output in engine.step() for token in output.token_ids]
    return tokens


def assert_answers_as(model, path, prompt: list[int]) -> None:
    answer = greedy(path, prompt)
    with torch.inference_mode():
        scores = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    assert scores.argmax(-1).tolist() == answer


def load(path) -> None:
    load_model(EngineConfig(model=str(path)), locate(str(path)), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
def test_tokens_equal_transformers_on_the_same_weights(kind, tmp_path):
    model = random_model()
    write(tmp_path / "model.gguf", model, gguf.GGMLQuantizationType[kind])
    assert_answers_as(model, tmp_path / "model.gguf", [5, 9, 100, 159, 7, 0, 42])


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_1"])
@pytest.mark.parametrize(
    ("family", "changes"), [(Qwen2Config, {}), (Qwen3Config, {"head_dim": 16}), (Qwen3Config, {"head_dim": 32})]
)
def test_tokens_of_other_families_equal_transformers(kind, family, changes, tmp_path):
    model = random_model(family, **changes)
    write(tmp_path / "model.gguf", model, gguf.GGMLQuantizationType[kind])
    assert_answers_as(model, tmp_path / "model.gguf", LONG)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("name", ["mlp.down_proj", "self_attn.q_proj", "self_attn.k_proj"])
def test_tensors_in_groups_stay_so_and_mean_what_gguf_says(kind, name, tmp_path):
    model = random_model()
    write(tmp_path / "model.gguf", model, gguf.GGMLQuantizationType[kind])
    weight = dict(model.named_parameters())[f"model.layers.1.{name}.weight"].detach()  # as gguf's own code unpacks it
    stored = GGUFFile(tmp_path / "model.gguf").read(f"model.layers.1.{name}.weight", tuple(weight.shape))
    assert isinstance(stored, QuantizedMatrix)
    assert (stored.minimums is None) == (kind != "Q4_1")
    torch.testing.assert_close(stored.dequantize(), weight, rtol=0, atol=1e-7)


def test_a_file_without_an_output_head_ties_it_to_the_embedding(tmp_path):
    write(tmp_path / "model.gguf", random_model(), gguf.GGMLQuantizationType.F32, tied=True)
    file = GGUFFile(tmp_path / "model.gguf")
    assert file.spec.tie_embeddings
    assert file.spec.eos_token_ids == (3,)
    assert file.spec.vocab_size == CONFIG.vocab_size  # from the embedding: the metadata does not name it
    assert len(greedy(tmp_path / "model.gguf", [1, 2])) == 16


def test_unsupported_types_and_shapes_are_named(tmp_path):
    write(
        tmp_path / "model.gguf",
        random_model(),
        leave_out={"lm_head.weight"},
        tensors={"output.weight": np.ones((160, 64), np.int8)},
    )
    file = GGUFFile(tmp_path / "model.gguf")
    with pytest.raises(UnsupportedModel, match=r"output\.weight: type must be one of F32, F16, .* got I8"):
        file.read("lm_head.weight", (160, 64))
    with pytest.raises(UnsupportedModel, match=r"output_norm\.weight: shape must be \(65,\), got \(64,\)"):
        file.read("model.norm.weight", (65,))


def test_rope_freqs_turn_as_llama3_does_in_transformers(tmp_path):
    model = random_model(rope_parameters=LLAMA3_ROPE)
    plain = 1 / 10000.0 ** (torch.arange(0, 16, 2) / 16)
    divisors = (plain / model.model.rotary_emb.inv_freq).numpy()  # as llama.cpp's converter works them out
    assert divisors.min() == 1
    assert divisors.max() == 8
    write(tmp_path / "model.gguf", model, tensors={"rope_freqs.weight": divisors})
    assert_answers_as(model, tmp_path / "model.gguf", LONG)
    spec = GGUFFile(tmp_path / "model.gguf").spec
    rotary = RotaryEmbedding(spec.head_dim, spec.rope_theta, spec.rope_scaling, torch.device("cpu"))
    rotary.reach(128)
    angles = torch.outer(torch.arange(128).float(), model.model.rotary_emb.inv_freq)
    torch.testing.assert_close(rotary.table, torch.cat((angles.cos(), angles.sin()), -1), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "say",
    [
        lambda writer: writer.add_float32("llama.rope.scale_linear", 4.0),
        lambda writer: writer.add_rope_scaling_factor(4.0),
        lambda writer: (writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR), writer.add_rope_scaling_factor(4.0)),
    ],
    ids=["the old key", "the factor alone", "type and factor"],
)
def test_linear_rope_scaling_is_transformers(say, tmp_path):
    model = random_model(rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})
    write(tmp_path / "model.gguf", model, metadata=say)
    assert_answers_as(model, tmp_path / "model.gguf", LONG)


def test_rope_scaling_of_type_none_or_by_one_is_none(tmp_path):
    def say(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
        writer.add_rope_scaling_factor(4.0)

    write(tmp_path / "model.gguf", random_model(), metadata=say)
    assert GGUFFile(tmp_path / "model.gguf").spec.rope_scaling is None


@pytest.mark.parametrize("family", [MistralConfig, Qwen2Config])
def test_a_sliding_window_is_seen_by_all_layers_or_bounds_requests(family, tmp_path):
    model = random_model(family, sliding_window=20)
    model.config.model_type = "llama" if family is MistralConfig else "qwen2"
    write(tmp_path / "model.gguf", model, metadata=lambda writer: writer.add_sliding_window(20))
    spec = GGUFFile(tmp_path / "model.gguf").spec
    if family is MistralConfig:
        assert [spec.window_of(layer) for layer in range(2)] == [20, 20]
        assert_answers_as(model, tmp_path / "model.gguf", LONG)
    else:
        assert (spec.window_of(1), spec.max_position) == (None, 20)


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_gemma_3_is_read_as_its_converter_writes_it(kind, tmp_path):
    """Its norms are stored with the 1 that transformers adds; what llama.cpp has by the architecture's name, such as
    which layers see the window, is not written."""
    model = random_model(
        Gemma3TextConfig,
        head_dim=32,
        sliding_window=20,
        layer_types=["sliding_attention"] * 2,
        query_pre_attn_scalar=32,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        },
        pad_token_id=0,
    )
    write(
        tmp_path / "model.gguf",
        model,
        gguf.GGMLQuantizationType[kind],
        tied=True,
        metadata=lambda writer: writer.add_sliding_window(20),
    )
    spec = GGUFFile(tmp_path / "model.gguf").spec
    assert [spec.window_of(layer) for layer in range(2)] == [20, 20]
    assert_answers_as(model, tmp_path / "model.gguf", LONG)
    write(tmp_path / "model.gguf", model, tied=True)
    with pytest.raises(UnsupportedModel, match="sliding_window must be given, got none"):
        GGUFFile(tmp_path / "model.gguf")


@pytest.mark.parametrize("pattern", [[True, False], [False, True], [True] * 3])
def test_a_file_may_say_which_layers_see_the_window(pattern, tmp_path):
    def say(writer: gguf.GGUFWriter) -> None:
        writer.add_sliding_window(20)
        writer.add_sliding_window_pattern(pattern)

    write(tmp_path / "model.gguf", random_model(), metadata=say)
    if len(pattern) == 2:
        spec = GGUFFile(tmp_path / "model.gguf").spec
        assert [spec.window_of(layer) for layer in range(2)] == [20 if slides else None for slides in pattern]
    else:
        with pytest.raises(
            UnsupportedModel, match=r"llama\.attention\.sliding_window_pattern must have 2 entries, got 3"
        ):
            GGUFFile(tmp_path / "model.gguf")


def test_biases_are_used(tmp_path):
    model = random_model(attention_bias=True, mlp_bias=True)
    write(tmp_path / "model.gguf", model)
    assert_answers_as(model, tmp_path / "model.gguf", LONG)


def test_a_projection_may_be_without_the_bias_that_others_have(tmp_path):
    model = random_model(attention_bias=True)
    absent = {f"model.layers.{layer}.self_attn.o_proj.bias" for layer in (0, 1)} | {
        "model.layers.1.self_attn.k_proj.bias"
    }
    for name, parameter in model.named_parameters():
        if name in absent:
            parameter.data.zero_()
    write(tmp_path / "model.gguf", model, leave_out=absent)
    assert_answers_as(model, tmp_path / "model.gguf", LONG)


def test_parts_are_read_as_one_model(tmp_path):
    model = random_model()
    write(tmp_path / "model.gguf", model, split_max_tensors=8)
    assert len(list(tmp_path.iterdir())) == 3
    assert_answers_as(model, tmp_path, [1, 2, 3])
    assert_answers_as(model, tmp_path / "model-00002-of-00003.gguf", [1, 2, 3])
    (tmp_path / "model-00003-of-00003.gguf").write_bytes((tmp_path / "model-00002-of-00003.gguf").read_bytes())
    with pytest.raises(UnsupportedModel, match=r"model-00003-of-00003\.gguf: split\.no must be 2, got 1"):
        load(tmp_path)
    (tmp_path / "model-00001-of-00003.gguf").rename(tmp_path / "alone.gguf")
    with pytest.raises(UnsupportedModel, match=r"one of 3 parts, as in model-00001-of-00003\.gguf"):
        load(tmp_path / "alone.gguf")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"blk.0.attn_q_norm.weight": np.ones(16, np.float32)}, r"does not read: blk\.0\.attn_q_norm\.weight"),
        ({"blk.2.attn_norm.weight": np.ones(64, np.float32)}, r"does not read: blk\.2\.attn_norm\.weight"),
        ({"blk.0.ffn_gate_exps.weight": np.ones((2, 8), np.float32)}, "does not read: blk.0.ffn_gate_exps"),
        ({"rope_freqs.weight": np.ones(4, np.float32)}, r"rope_freqs\.weight must hold 8 numbers, .* got 4"),
        ({"rope_freqs.weight": np.zeros(8, np.float32)}, r"rope_freqs\.weight must hold positive numbers, got 0"),
    ],
)
def test_tensors_that_nobody_reads_are_refused_by_name(tensors, words, tmp_path):
    write(tmp_path / "model.gguf", random_model(), tensors=tensors)
    with pytest.raises(UnsupportedModel, match=words):
        load(tmp_path)


def test_a_table_that_follows_from_the_metadata_may_be_left_over(tmp_path):
    write(tmp_path / "model.gguf", random_model(), tensors={"blk.0.attn_rot_embd.weight": np.ones(8, np.float32)})
    load(tmp_path)


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (lambda writer: writer.add_logit_scale(2.0), r"llama\.logit_scale: unknown field"),
        (lambda writer: writer.add_expert_used_count(8), r"llama\.expert_used_count must be 0, got 8"),
        (
            lambda writer: writer.add_string("llama.rope.scaling.type", "dynamic"),
            "none, linear, yarn or longrope, got dynamic",
        ),
        (lambda writer: writer.add_rope_dimension_count(8), r"rope\.dimension_count must be 16, .* got 8"),
        (lambda writer: writer.add_value_length(8), r"attention\.value_length must be 16, .* got 8"),
        (lambda writer: writer.add_key_length(15), r"head_dim must be even, got 15"),
        (lambda writer: writer.add_rope_scaling_factor(-1.0), r"rope\.scaling\.factor: .*greater than or equal to 0"),
        (lambda writer: writer.add_string("general.type", "adapter"), r"general\.type must be model, got adapter"),
    ],
)
def test_metadata_that_changes_the_arithmetic_is_refused_by_name(say, words, tmp_path):
    write(tmp_path / "model.gguf", random_model(), metadata=say)
    with pytest.raises(UnsupportedModel, match=rf"{tmp_path}/model\.gguf: .*{words}"):
        GGUFFile(tmp_path / "model.gguf")


def test_metadata_that_changes_nothing_is_passed_over(tmp_path):
    def say(writer: gguf.GGUFWriter) -> None:
        writer.add_vocab_size(160)
        writer.add_expert_count(0)
        writer.add_rope_dimension_count(16)
        writer.add_tensor_data_layout("Meta AI original pth")
        writer.add_string("general.license", "mit")
        writer.add_uint32("quantize.imatrix.entries_count", 1)

    write(tmp_path / "model.gguf", random_model(), metadata=say)
    load(tmp_path)


def test_missing_metadata_is_named(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.ones((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedModel, match=r"llama\.context_length: field required"):
        GGUFFile(tmp_path / "model.gguf")


def test_an_embedding_that_is_no_matrix_is_named(tmp_path):
    write(
        tmp_path / "model.gguf",
        random_model(),
        leave_out=["model.embed_tokens.weight"],
        tensors={"token_embd.weight": np.ones(64, np.float32)},
    )
    with pytest.raises(UnsupportedModel, match=r"token_embd\.weight: must be a matrix, got 1 dimensions"):
        GGUFFile(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("architecture", "words"),
    [("qwen3next", "got qwen3next; the nearest name that is served is qwen3$"), ("rwkv6", "got rwkv6$")],
)
def test_other_architectures_are_refused_beside_the_nearest_that_is_served(architecture, words, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", architecture)
    writer.add_tensor("token_embd.weight", np.ones((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedModel, match=rf"general\.architecture must be one of .*llama, .*{words}"):
        GGUFFile(tmp_path / "model.gguf")


def test_a_file_in_the_other_byte_order_is_refused(tmp_path):
    write(tmp_path / "model.gguf", random_model(), endianess=gguf.GGUFEndian.BIG)
    with pytest.raises(UnsupportedModel, match=r"model\.gguf: byte order must be little-endian, got big-endian"):
        load(tmp_path)


@pytest.mark.parametrize("cut", [0, 3, 20, 300, 5000, -1])
def test_a_truncated_file_is_named(cut, tmp_path):
    write(tmp_path / "model.gguf", random_model())
    whole = (tmp_path / "model.gguf").read_bytes()
    (tmp_path / "model.gguf").write_bytes(whole[:cut])
    with pytest.raises(UnsupportedModel, match=rf"{tmp_path}/model\.gguf: is no whole GGUF file: ") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_answers_end_at_the_tokens_at_which_llama_cpp_ends_them(tmp_path):
    def say(writer: gguf.GGUFWriter) -> None:
        words = [f"w{token}" for token in range(160)]
        words[100:103] = ["<|eot_id|>", "<|im_end|>", "<|start_header_id|>"]
        writer.add_token_list(words)
        writer.add_eot_token_id(5)
        writer.add_uint32("tokenizer.ggml.eom_token_id", 6)
        writer.add_int32("tokenizer.ggml.fim_pad_token_id", -1)  # llama.cpp's own sign for none

    write(tmp_path / "model.gguf", random_model(), metadata=say)
    assert set(GGUFFile(tmp_path / "model.gguf").spec.eos_token_ids) == {3, 5, 6, 100, 101}
    engine = Engine(EngineConfig(model=str(tmp_path), device="cpu", dtype="float32", kv_cache_memory="8Mi"))
    for end in (6, 100):
        engine.add_request("r", [4, 7], SamplingParams(logit_bias={end: 100.0}, max_tokens=5, temperature=0.0))
        outputs = []
        while engine.has_work:
            outputs += engine.step()
        assert [token for output in outputs for token in output.token_ids] == [end]
        assert outputs[-1].finish_reason == "stop"


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_numbers_that_are_none_are_named(kind, value, tmp_path):
    weight = np.full((64, 96), 0.5, np.float32)
    weight[3, 7] = value
    packed = gguf.quantize(np.full((64, 96), 0.5, np.float32), gguf.GGMLQuantizationType.Q8_0)
    packed[3, :2] = np.array([value], np.float16).view(np.uint8)
    write(tmp_path / "model.gguf", random_model(), leave_out={"model.layers.1.mlp.down_proj.weight"},
          metadata=lambda writer: writer.add_tensor(
              "blk.1.ffn_down.weight", weight if kind == "F32" else packed,
              raw_dtype=gguf.GGMLQuantizationType[kind]))  # fmt: skip
    with pytest.raises(UnsupportedModel, match=r"blk\.1\.ffn_down\.weight must hold finite numbers, got NaN or inf"):
        load(tmp_path)
