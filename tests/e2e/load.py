"""Streams chat completions one after another and prints a JSON line for each: load.py BASE_URL MODEL OPTIONS

OPTIONS, a JSON object: `tokens` of each answer (default 8), `workers` that ask at once (default 1), `requests` of each
worker (default: until standard input ends). Nothing is tried twice, so that every failure shows."""

import json
import sys
import threading
import time

from openai import OpenAI

base_url, model, text = sys.argv[1:]
options = {"tokens": 8, "workers": 1, "requests": 0} | json.loads(text)
client = OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=600)
stopping = threading.Event()


def request() -> dict[str, object]:
    """One request; `tokens` counts the pieces that came."""
    start, tokens, error, finished = time.time(), 0, None, False
    try:
        for chunk in client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Count to one thousand."}],
            max_tokens=options["tokens"],
            stream=True,
            extra_body={"ignore_eos": True},
        ):
            tokens += bool(chunk.choices and chunk.choices[0].delta.content)
            finished = finished or any(choice.finish_reason == "length" for choice in chunk.choices)
    except Exception as problem:  # whatever it is, it is what the client met
        error = f"{type(problem).__name__}: {problem}"
        if problem.__cause__ is not None:
            error += f" ({problem.__cause__})"
    if error is None and not finished:
        error = f"the stream ended after {tokens} tokens"
    return {"start": start, "end": time.time(), "tokens": tokens, "error": error}


def work() -> None:
    """One worker."""
    done = 0
    while not stopping.is_set() and (done < options["requests"] or not options["requests"]):
        outcome = request()
        print(json.dumps(outcome) + "\n", end="", flush=True)
        done += 1
        if outcome["error"]:
            time.sleep(0.2)


workers = [threading.Thread(target=work) for _ in range(options["workers"])]
for worker in workers:
    worker.start()
if not options["requests"]:
    sys.stdin.read()
    stopping.set()
for worker in workers:
    worker.join()
