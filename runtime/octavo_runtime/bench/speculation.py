"""`octavo bench speculation`: texts that repeat themselves, and one that does not, with tokens guessed and without."""

from octavo_runtime.bench.drive import configure, drive, open_engine
from octavo_runtime.bench.jobs import Job
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.rows import Row, publish
from octavo_runtime.models.loading.files import locate
from octavo_runtime.text.tokenizer import load_tokenizer

_CODE = '''
class Account:
    """Money of one owner, in cents."""

    def __init__(self, owner: str, balance: int = 0) -> None:
        self.owner = owner
        self.balance = balance

    def deposit(self, amount: int) -> None:
        if amount <= 0:
            raise ValueError("amount must be above 0")
        self.balance += amount

    def withdraw(self, amount: int) -> None:
        if amount <= 0:
            raise ValueError("amount must be above 0")
        if amount > self.balance:
            raise ValueError("amount must be at most the balance")
        self.balance -= amount
'''
_LETTER = (
    "Dear guests, the museum opens at nine in the morning and closes at six in the evening. On the first Sunday of a "
    "month nobody pays. Children under twelve are welcome with a grown-up; bags go into the lockers by the entrance. "
    "The reading room on the second floor is quiet, and its books stay there. Tours start every hour at the fountain."
)
_PROMPTS = {
    "code that is written again": f"{_CODE}\nThe same class, with `holder` in the place of `owner`:\n\nclass Account:",
    "a text that is quoted": f"{_LETTER}\n\nThe letter says, word for word: {_LETTER[:60]}",
    "a story": "Once upon a time, in a village by the sea, there lived",
}


def run(model: str, dtype: str, guesses: int, longest: int, shortest: int, tokens: int, *, as_json: bool) -> None:
    """`tokens` of each text, one text after another, and prints the tokens a second of both ways, the tokens that a
    step brings, and the share of guesses that were right. BadOption where a setting is out of bounds."""
    said = {
        "method": "ngram",
        "num_speculative_tokens": guesses,
        "prompt_lookup_max": longest,
        "prompt_lookup_min": shortest,
    }
    tokenizer = load_tokenizer(locate(model))
    jobs = {name: Job(tokenizer.encode(text, add_special_tokens=True), tokens) for name, text in _PROMPTS.items()}
    plain = open_engine(configure(model, dtype=dtype))
    rates = {name: tokens / drive(plain, [job]).seconds for name, job in jobs.items()}
    del plain
    engine, rows = open_engine(configure(model, dtype=dtype, speculative_config=said)), []
    for name, job in jobs.items():
        before = engine.load
        trace = drive(engine, [job])
        guessed = engine.load.guessed - before.guessed
        figures = {
            "without, tok/s": rates[name],
            "out_tok_s": tokens / trace.seconds,
            "tokens a step": tokens / len(trace.steps),
            "right, %": 100 * (engine.load.guessed_right - before.guessed_right) / max(guessed, 1),
        }
        rows.append(Row(name, figures))
    publish("speculation", machine(engine.ready.device), f"{model} {engine.ready.dtype}", rows, None, as_json=as_json)
