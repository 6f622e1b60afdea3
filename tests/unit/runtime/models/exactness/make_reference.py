"""Writes smollm2_greedy.json: what transformers generates greedily in float32, for the engine to be compared with.

    python tests/unit/runtime/models/exactness/make_reference.py

50 prompts from 3 to about 700 tokens, 64 new tokens each, one prompt at a time, end-of-sequence ignored. `gaps` holds
the distance between the two best scores of each step: where it is tiny, two correct engines may differ."""

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from octavo_runtime.models.loading.files import locate

NEW_TOKENS = 64
OUTPUT = Path(__file__).with_name("smollm2_greedy.json")

QUESTIONS = [
    "What is the capital of France?",
    "Name three primary colours.",
    "Why is the sky blue?",
    "Write a haiku about autumn rain.",
    "Explain photosynthesis to a ten-year-old.",
    "How many legs does a spider have?",
    "Translate 'good morning' into Spanish.",
    "What does a compiler do?",
    "Give me a recipe for pancakes.",
    "Who wrote Romeo and Juliet?",
    "List the planets of the solar system in order.",
    "What is 17 times 23?",
    "Write a Python function that reverses a string.",
    "What is the difference between a list and a tuple?",
    "How do vaccines work?",
    "Suggest a name for a friendly robot.",
    "What causes tides?",
    "Summarise the story of Cinderella in two sentences.",
    "Which is heavier, a kilogram of iron or of feathers?",
    "Tell me a joke about cats.",
    "¿Cuál es la capital de Perú?",
    "Was ist ein Regenbogen?",
    "日本の首都はどこですか？",
    "Describe the smell of the sea. 🌊",
    "What is a paged KV cache?",
]
OPENINGS = [
    "Once upon a time",
    "The quick brown fox",
    "def fibonacci(n):\n    ",
    "import numpy as np\n\n# Compute the mean of an array\n",
    "In 1969, astronauts",
    "Dear Sir or Madam,\n\n",
    "1, 1, 2, 3, 5, 8,",
    "SELECT name, age FROM",
    "<html>\n<head>",
    "The three laws of thermodynamics are",
    "E = mc",
    "To be, or not to be",
    "   \n\n  indented",
]
SENTENCES = [
    "The harbour was quiet when the first boats returned.",
    "A gardener needs patience more than tools.",
    "Rivers carry the mountains to the sea, one grain at a time.",
    "The committee met on Tuesday and agreed on nothing.",
    "Every line of code is a small promise to a stranger.",
    "She kept the letters in a tin box under the stairs.",
    "In winter the lake froze so hard that carts could cross it.",
    "The recipe asks for flour, two eggs, milk and a pinch of salt.",
    "Nobody remembered who had painted the blue door.",
    "Trains leave for the coast at ten past every hour.",
]


def prompts(tokenizer) -> list[list[int]]:
    """Token ids of 25 chats, 13 openings and 12 long texts."""
    made = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in QUESTIONS
    ]
    made += [tokenizer(text).input_ids for text in OPENINGS]
    rng = random.Random(0)
    for length in (4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 56):
        made.append(tokenizer(" ".join(rng.choices(SENTENCES, k=length))).input_ids)
    return made


@torch.inference_mode()
def main() -> None:
    gguf = locate("builtin://smollm2").gguf
    with TemporaryDirectory() as alone:  # transformers would mix in what `octavo prepare` laid beside the file
        (Path(alone) / gguf.name).symlink_to(gguf)
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=gguf.name)
        # transformers splits the words of every GGUF file as GPT-2 does. This is the published tokenizer.json's way.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        model = AutoModelForCausalLM.from_pretrained(alone, gguf_file=gguf.name, dtype=torch.float32)
    cases = []
    for ids in prompts(tokenizer):
        answer = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=-1,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_logits=True,
        )
        best = torch.stack(answer.logits)[:, 0].float().topk(2).values
        cases.append(
            {
                "prompt": ids,
                "tokens": answer.sequences[0, len(ids) :].tolist(),
                "gaps": [round(gap, 5) for gap in (best[:, 0] - best[:, 1]).tolist()],
            }
        )
        print(len(cases), len(ids), repr(tokenizer.decode(cases[-1]["tokens"]))[:80], flush=True)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    OUTPUT.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
