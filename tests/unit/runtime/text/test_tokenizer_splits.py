"""How GGUF files split texts into words, by the names that llama.cpp gives to tokenizers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_runtime.text.tokenizer import _BYTE_OF_CHARACTER
from octavo_runtime.text.tokenizer_splits import DEFAULT, SPLITS, Split

TEXT = "Hi!\n\n1. I'S 12345\n  don't XyzAbc $9"
EXPECTED = [
    ("default", "Hi|!|\n|\n|1|.| I|'|S| |123|45|\n | don|'|t| XyzAbc| |$|9"),
    ("gpt-2 phi-2 mpt olmo jais trillion", "Hi|!|\n|\n|1|.| I|'|S| 12345|\n | don|'t| XyzAbc| $|9"),
    ("smollm starcoder refact command-r exaone", "Hi|!|\n\n|1|.| I|'|S| |1|2|3|4|5|\n | don|'t| XyzAbc| $|9"),
    ("llama-bpe llama3 llama-v3 dbrx glm4 glm5 pixtral", "Hi|!\n\n|1|.| I|'S| |123|45|\n| | don|'t| XyzAbc| $|9"),
    ("qwen2 stablelm2 deepseek-r1-qwen qwen35", "Hi|!\n\n|1|.| I|'S| |1|2|3|4|5|\n| | don|'t| XyzAbc| $|9"),
    ("ufakzeka", "Hi|!\n\n|1|.| I|'S| |1|2|3|4|5|\n| | don|'t| XyzAbc| $|9"),
    ("minicpm5", "Hi|!\n\n|1|.| I|'S| |123|45|\n| | don|'t| XyzAbc| $|9"),
    ("laguna seed-coder", "Hi|!|\n\n|1|.| I|'S| |1|2|3|4|5|\n| | don|'t| XyzAbc| $|9"),
    ("bailingmoe", "Hi|!\n\n|1|.| I|'S| |1|2|3|4|5|\n| | don|'t| XyzAbc| $|9"),
    ("exaone-moe", "Hi|!\n|\n|1|.| I|'S| |1|2|3|4|5|\n| | don|'t| XyzAbc| $|9"),
    ("gpt-4o llama4 minimax-m2 kimi-k2", "Hi|!\n\n|1|.| I'S| |123|45|\n| | don't| Xyz|Abc| $|9"),
    ("tekken", "Hi|!\n\n|1|.| I|'S| |1|2|3|4|5|\n| | don|'t| Xyz|Abc| $|9"),
    ("tiny_aya cohere2moe", "Hi|!\n\n|1|.| I'S| |12|345|\n| | don't| Xyz|Abc| $|9"),
    ("youtu", "Hi|!\n\n|1|.| I'S| |1|2|3|4|5|\n| | don't| Xyz|Abc| $|9"),
    ("superbpe", "Hi!\n\n|1|. I'S |12|345|\n  don't XyzAbc $|9"),
    ("deepseek-llm", "Hi|!|\n|\n|1|.| I|'|S| |12345|\n| | don|'|t| XyzAbc| $|9"),
    ("deepseek-coder", "Hi|!|\n|\n|1|.| I|'|S| |1|2|3|4|5|\n| | don|'|t| XyzAbc| $|9"),
    ("deepseek-v3 hunyuan-dense", "Hi|!\n\n|1|.| I|'S| |123|45|\n| | don|'t| XyzAbc| $|9"),
    ("falcon", "Hi|!|\n|\n|1|.| I|'|S| |123|45|\n | don|'|t| XyzAbc| |$|9"),
    ("bloom poro-chat gpt3-finnish", "Hi|!\n\n|1|.| I'S| 12345|\n | don't| XyzAbc| $9"),
    ("viking", "Hi|!\n\n|1|.| I'S| |1|2|3|4|5|\n | don't| XyzAbc| $|9"),
    ("chameleon", "Hi|!|\n|\n|1|.| I|'|S| |1|2|3|4|5|\n|  |don|'|t| XyzAbc| |$|9"),
]


def words(split: Split, text: str) -> list[str]:
    """The pieces, in plain text; one that ends within a character shows U+FFFD."""
    pieces = [piece for piece, _ in split.pre_tokenizer().pre_tokenize_str(text)]
    return [piece.translate(_BYTE_OF_CHARACTER).encode("latin-1").decode("utf-8", "replace") for piece in pieces]


@pytest.mark.parametrize(("names", "expected"), EXPECTED)
def test_words_of_each_kind_of_tokenizer(names, expected):
    for name in names.split():
        assert "|".join(words(SPLITS[name], TEXT)) == expected, name


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("llama-bpe", "if x:\n\n\n    y  = 1\r\n", "if| x|:\n\n\n|   | y| | =| |1|\r\n"),
        ("llama-bpe", "naïve ǅ ½ 日本語2024年", "naïve| ǅ| |½| 日本語|202|4|年"),
        ("qwen35", "कि है", "कि| है"),
        ("qwen2", "कि", "क|ि"),
        ("kimi-k2", "ab漢字cdかな/\n", "ab|漢字|cdかな|/\n"),
        ("gpt-4o", "ab漢字cdかな/\n", "ab漢字cdかな|/\n"),
        ("gpt-4o", "HTMLParser isn'T a/b\n", "HTMLParser| isn'T| a|/b|\n"),
        ("youtu", "ab漢字，cdかな/\n한국어", "ab|漢字|，|cd|かな|/\n|한국어"),
        ("superbpe", "of 1234567 ½", "of |1|234|567| |½"),
        ("tekken", "getHTTP été", "get|HTTP| été"),
        ("deepseek-v3", "東京タワーhigh x²+y", "東京タワー|high| x|²|+y"),
        ("deepseek-llm", "Wörter Łódź 𝐀b，ok", "W|ö|rter| Łó|d|ź| 𝐀|b|，|ok"),
        ("bloom", "a,b。c (d)", "a|,|b|。|c| (|d|)"),
        ("ufakzeka", "Ankara'ya", "Ankara|'ya"),
        ("chameleon", "xIMGIMGABZx", "x|IMGIMGABZ|x"),
        ("falcon", "x`y=1234", "x|`|y|=|123|4"),
        ("default", "x`y=1234", "x|`|y|=|123|4"),
    ],
)
def test_words_where_kinds_differ(name, text, expected):
    assert "|".join(words(SPLITS[name], text)) == expected


@given(text=st.text(max_size=40))
def test_no_split_loses_a_character(text):
    for split in {DEFAULT, *SPLITS.values()}:
        pieces = [piece for piece, _ in split.pre_tokenizer().pre_tokenize_str(text)]
        assert "".join(pieces).translate(_BYTE_OF_CHARACTER).encode("latin-1") == text.encode()


def test_each_kind_is_among_those_above():
    named = {name for names, _ in EXPECTED for name in names.split()}
    assert {SPLITS[name] for name in named} == set(SPLITS.values())
