"""How a BPE tokenizer splits a text into words before it merges, by the name that a GGUF file gives (its key
`tokenizer.ggml.pre`; the names are llama.cpp's, llama-vocab.cpp).

Each expression cuts what the ones before it left: every match is a piece of its own, and so is every gap. They are in
Oniguruma's syntax, which `tokenizers` reads; where llama.cpp spells a published tokenizer's expression in another way
for its own engine, the published one stands here."""

from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_CAPITAL, _SMALL = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def _tiktoken(digits: str, contraction: str = f"{_CONTRACTION}|") -> str:
    """The shape that cl100k made common: contractions, words, up to so many digits, symbols, white space."""
    return rf"{contraction}[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|{_SYMBOLS}|{_SPACE}"


def _cased_words(contraction: str, less: str = "") -> str:
    """Words that also end where a capital follows a small letter. less: characters that are in none."""
    first, capital, small = r"[^\r\n\p{L}\p{N}]?", f"[{_CAPITAL}{less}]", f"[{_SMALL}{less}]"
    return f"{first}{capital}*{small}+{contraction}|{first}{capital}+{small}*{contraction}"


def _cased(digits: str, contraction: str = f"{_CONTRACTION}?") -> str:
    """The shape that o200k made common."""
    return rf"{_cased_words(contraction)}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACE}"


_DIGIT, _DIGITS, _THREE = r"\p{N}", r"\p{N}+", r"\p{N}{1,3}"
_LLAMA3, _QWEN2 = _tiktoken(_THREE), _tiktoken(_DIGIT)
_SENTENCE = r" ?[^(\s|.,!?…。，、।۔،)]+"
_HAN_APART = _cased_words(f"{_CONTRACTION}?", r"&&[^\p{Han}]")
_KANA_AND_HAN = r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK_HAN = r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
# Hangul, marks that stand between words of Chinese, Bopomofo, Chinese with Kana.
_YOUTU_APART = (
    r"[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a-\uff1b\uff0c\u3001-\u303f"
    rf"\ufe30-\ufe4f]+|[\u3105-\u312f]+|{_KANA_AND_HAN}"
)
# Letters that have two cases, less those that the authors of DeepSeek LLM left out.
_DEEPSEEK_LETTERS = (
    r"(?:(?![\x{560}\x{588}\x{10c7}-\x{10ff}\x{1c80}-\x{1c8f}\x{2d00}-\x{2d2f}\x{a790}-\x{a7ff}\x{ab30}-\x{ab6f}"
    r"\x{10570}-\x{105bf}\x{10d50}-\x{10d85}\x{16e40}-\x{16e7f}\x{1d400}-\x{1d7cb}\x{1df00}-\x{1dfff}])"
    r"[\p{Lu}\p{Ll}\p{Lt}])+"
)
_DEEPSEEK_MARKS = r"[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]"
_DEEPSEEK_WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACE}"
)


@dataclass(frozen=True)
class Split:
    """expressions: see above. whole_words: a word that is in the vocabulary is one token, whatever the merges say.
    adds_bos: whether texts begin with the bos token where the file does not say."""

    expressions: tuple[str, ...]
    whole_words: bool = False
    adds_bos: bool = False

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """The same for the `tokenizers` library, words as GPT-2's stand-ins for bytes."""
        cuts = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in self.expressions]
        return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _named(split: Split, *names: str) -> dict[str, Split]:
    return dict.fromkeys(names, split)


DEFAULT = Split((r"[\p{P}$+<=>^~|]+", _GPT2, _DIGITS, r"[0-9][0-9][0-9]"))
"""For a file that names none, as llama.cpp has it."""

SPLITS: dict[str, Split] = {
    **_named(DEFAULT, "default"),
    **_named(
        Split((_GPT2,)),
        "gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum", "modern-bert", "mpt", "olmo", "jais", "trillion",
        "granite-docling", "exaone4", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de",
    ),
    **_named(
        Split((_DIGIT, _GPT2)),
        "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2",
    ),
    **_named(
        Split((_LLAMA3,), whole_words=True, adds_bos=True),
        "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
    ),
    **_named(Split((_LLAMA3,)), "dbrx", "smaug-bpe", "chatglm-bpe"),
    **_named(Split((_LLAMA3,), whole_words=True), "glm4", "glm5"),
    **_named(
        Split((_QWEN2,)),
        "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2",
    ),
    **_named(
        Split(
            (
                rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
                rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACE}",
            )
        ),
        "qwen35",
    ),
    **_named(Split((_tiktoken(_DIGIT, ""),)), "ufakzeka"),
    **_named(Split((r"[^\n]+|[\n]+", _QWEN2)), "laguna"),
    **_named(Split((_THREE, _tiktoken(_DIGITS)), whole_words=True), "minicpm5"),
    **_named(
        Split((rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACE}",)),
        "seed-coder",
    ),
    **_named(
        Split(
            (
                r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
                r"|\s*[\r\n]|\s+(?!\S)|\s+",
            )
        ),
        "bailingmoe", "bailingmoe2", "llada-moe",
    ),
    **_named(
        Split(
            (
                rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
                r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
            )
        ),
        "exaone-moe",
    ),
    **_named(Split((_cased(_THREE),)), "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"),
    **_named(Split((_cased(_DIGIT, ""),), whole_words=True, adds_bos=True), "tekken"),
    **_named(Split((r"\d{1,3}(?=(?:\d{3})*\b)", _cased(_THREE))), "tiny_aya", "cohere2moe"),
    **_named(Split((_YOUTU_APART, _cased(_DIGIT)), whole_words=True), "youtu"),
    **_named(Split((_DIGITS, r"\d{1,3}(?=(?:\d{3})*(?!\d))")), "superbpe"),
    **_named(
        Split(
            (
                r"[\r\n]", rf"\s?{_DEEPSEEK_LETTERS}", rf"\s?{_DEEPSEEK_MARKS}+", r"\s+$", _DEEPSEEK_HAN, _DIGITS,
            )
        ),
        "deepseek-llm",
    ),
    **_named(
        Split((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _DEEPSEEK_HAN, _DIGIT)),
        "deepseek-coder",
    ),
    **_named(Split((_THREE, _KANA_AND_HAN, _DEEPSEEK_WORDS)), "deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"),
    **_named(Split((rf"\p{{Han}}+|{_HAN_APART}|{_THREE}|{_SYMBOLS}|{_SPACE}",)), "kimi-k2"),
    **_named(
        Split((r"[\p{P}$+<=>^~|`]+", _GPT2, r"[0-9][0-9][0-9]")),
        "falcon",
    ),
    **_named(Split((_SENTENCE,)), "bloom", "poro-chat", "gpt3-finnish"),
    **_named(Split((_SENTENCE, _DIGIT)), "viking"),
    **_named(
        Split(
            (
                r"<sentinel:[0-9]+>", r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", _DIGIT,
                r"[\p{P}!-/:-@\[-`{-~]", _GPT2,
            ),
            adds_bos=True,
        ),
        "chameleon",
    ),
}  # fmt: skip
