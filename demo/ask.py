"""Asks a served model one question and streams the answer, inside the cluster: ask.py BASE_URL MODEL QUESTION"""

import sys

from openai import OpenAI

base_url, model, question = sys.argv[1:]
stream = OpenAI(base_url=base_url, api_key="none").chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": question}],
    temperature=0,
    max_tokens=64,
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
