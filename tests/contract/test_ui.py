"""The page at / in a real browser: what a person with a pointer, a keyboard or a screen reader can do there."""

import json
import os
import subprocess

import httpx
import packages
import pytest
from browser import PROGRAM, Browser
from patience import PATIENCE, eventually
from steps import StepFailed

pytestmark = pytest.mark.slow

READY = "document.querySelector('select').value"
DONE = "document.querySelector('.facts') && document.querySelector('#stop').hidden"
FOCUSED = "document.activeElement.id || document.activeElement.name || document.activeElement.className"
# Puts a server of the test's own in the place of chat completions: it gives `body`, in pieces of 5 bytes, after which
# `asked` is the request.
STUB = """(body => {
  const real = window.fetch;
  window.fetch = async (path, options) => {
    if (!path.endsWith("chat/completions")) return real(path, options);
    window.asked = JSON.parse(options.body);
    const bytes = new TextEncoder().encode(body);
    return new Response(new ReadableStream({start(stream) {
      for (let at = 0; at < bytes.length; at += 5) stream.enqueue(bytes.slice(at, at + 5));
      stream.close();
    }}));
  };
})"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    try:
        packages.ensure({PROGRAM: PROGRAM})
    except StepFailed as failure:
        pytest.skip(f"{failure.reason}; {failure.advice}")
    running = Browser(tmp_path_factory.mktemp("browser"))
    yield running
    running.close()


@pytest.fixture
def open_page(browser, scripted):
    """Opens the page; at the end no page may have had an error or broken its security policy."""
    pages = []

    def opener(server=scripted, **size):
        pages.append(browser.open(f"{server.url}/", **size))
        pages[-1].wait(READY)
        return pages[-1]

    yield opener
    for page in pages:
        page.run("1")  # takes in what the page had to say until now
        assert page.messages == []
        page.close()


@pytest.fixture
def page(open_page):
    return open_page()


def ask(page, words: str) -> None:
    page.run("document.querySelector('#prompt').focus()")
    page.type(words)
    page.press("Enter")


def fill(page, name: str, value: str) -> None:
    """Writes into a setting, as someone would who types."""
    page.run("document.querySelectorAll('#parameters details').forEach(fold => fold.open = true)")
    page.run(f"document.querySelector('[name={name}]').focus()")
    page.type(value)
    page.press("Tab")


def answer_with(page, *deltas: dict, finish: str = "stop") -> None:
    """The next answers are these deltas; an entry `logprobs` of one stands beside it."""
    chunks = [
        {"choices": [{"index": 0, "delta": delta, "logprobs": delta.pop("logprobs", None), "finish_reason": None}]}
        for delta in deltas
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    events = "".join(f": a comment\r\ndata: {json.dumps(chunk, ensure_ascii=False)}\r\n\r\n" for chunk in chunks)
    page.run(f"{STUB}({json.dumps(events + 'data: [DONE]' + chr(10) * 2)})")


def test_the_page_is_static_and_may_load_nothing_else(scripted):
    with httpx.Client(base_url=scripted.url, trust_env=False, timeout=PATIENCE) as http:
        for path in ("/", "/ui/app.js", "/ui/style.css"):
            response = http.get(path)
            assert response.status_code == http.head(path).status_code == 200
            policy = response.headers["content-security-policy"]
            assert policy.startswith("default-src 'self';")
            assert "unsafe" not in policy
            assert response.headers["cache-control"] == "no-cache"
        html = http.get("/").text
        assert "style=" not in html
        assert "http" not in html
        for path in ("/ui/nothing.js", "/ui/..%2fpage.py", "/ui/", "/ui"):
            response = http.get(path)
            assert response.status_code == 404
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        assert http.post("/").status_code == 405
        assert not {"/", "/ui/{name}"} & set(http.get("/openapi.json").json()["paths"])


def test_without_the_page(start_scripted):
    server = start_scripted("--no-ui")
    for path in ("/", "/ui/app.js"):
        response = httpx.get(f"{server.url}{path}", trust_env=False, timeout=PATIENCE)
        assert response.status_code == 404
        assert response.json()["error"]["message"] == f"no such endpoint: GET {path}"


def test_an_answer(page):
    ask(page, "What is the capital of France?")
    page.wait(DONE)
    assert page.text(".user .text") == "What is the capital of France?"
    assert page.text(".assistant .text").startswith("The capital of France is Paris.")
    assert page.text(".assistant .text").endswith("voilà ✨.")
    assert page.text(".facts").startswith("29 tokens")
    assert page.run("document.querySelector('#prompt').value") == ""
    assert page.run("document.querySelector('#log').ariaBusy") == "false"


def test_streaming_and_stop(page, scripted):
    aborted = scripted.metric("octavo_requests_total", status="aborted")
    ask(page, "[slow]")
    length = "document.querySelector('.assistant .text')?.innerText.length"
    page.wait(f"{length} > 0")
    first = page.run(length)
    assert page.run("document.querySelector('#log').ariaBusy") == "true"
    assert page.run("document.querySelector('#send').hidden")
    page.wait(f"{length} > {first}")
    page.click("#stop")
    page.wait(DONE)
    assert page.text(".facts").startswith("stopped")
    assert page.text(".assistant .text").startswith("The capital")
    assert page.run(FOCUSED) == "prompt"
    page.wait("fetch('metrics').then(r => r.text()).then(t => /octavo_requests_running{.*} 0.0/.test(t))")
    # The server counts a request once it has seen its client leave, the engine at once.
    eventually(lambda: scripted.metric("octavo_requests_total", status="aborted") == aborted + 1, "it is counted")


def test_everything_by_keyboard(page):
    assert page.run(FOCUSED) == "prompt"
    page.type("one")
    page.press("Enter", shift=True)
    page.type("two [slow]")
    page.press("Enter")
    page.wait("document.querySelectorAll('.assistant .token').length > 2")
    assert page.text(".user .text") == "one\ntwo [slow]"
    page.press("Escape")
    page.wait(DONE)
    order = []
    for _ in range(6):
        page.press("Tab", shift=True)
        order.append(page.run(f"document.activeElement.innerText || {FOCUSED}"))
    assert order[0] in ("Copy", "Regenerate")
    assert "Regenerate" in order
    assert "The" in order
    assert page.run("document.querySelectorAll('.token[tabindex=\"0\"]').length") == 1, "Tab passes the others by"
    assert "Edit" in order


def test_token_probabilities_by_pointer_and_by_keyboard(page):
    ask(page, "hi")
    page.wait(DONE)
    assert not page.text("#alternatives")
    page.hover(".token:nth-child(2)")
    page.wait("!document.querySelector('#alternatives').hidden")
    assert page.text("#alternatives .chosen").split() == ["␣capital", "50.0", "%"]
    assert page.text("#alternatives").split()[3:6] == [page.text("tr:nth-child(2) td"), "25.0", "%"]
    assert page.run("document.querySelectorAll('#alternatives tr').length") == 5
    page.run("document.querySelector('.token').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert page.text("#alternatives .chosen").startswith("␣of")
    assert page.run("document.activeElement.getAttribute('aria-describedby')") == "alternatives"
    page.press("ArrowLeft")
    assert page.text("#alternatives .chosen").startswith("␣capital")
    page.press("Escape")
    assert page.run("document.querySelector('#alternatives').hidden")


def test_no_probabilities_where_they_are_not_wanted(page):
    answer_with(page, {"content": "yes"})
    page.click("[name=logprobs]")
    ask(page, "hi")
    page.wait(DONE)
    assert page.text(".assistant .text") == "yes"
    assert page.run("document.querySelectorAll('.token').length") == 0
    assert "logprobs" not in page.run("asked")


def test_a_character_of_several_tokens_and_marks_between_tokens(page):
    def token(text: bytes, logprob: float) -> dict:
        shown = text.decode(errors="replace")
        likeliest = {"token": "likeliest", "logprob": -0.1, "bytes": []}
        return {"token": shown, "logprob": logprob, "bytes": list(text), "top_logprobs": [likeliest]}

    entries = [
        token(b" **so", -0.01),
        token("é".encode()[:1], -5),
        token("é".encode()[1:], -0.4),
        token(b"** ok", -0.7),
    ]
    answer_with(page, {"content": "**soé** ok", "logprobs": {"content": entries}})
    ask(page, "hi")
    page.wait(DONE)
    assert page.run("[...document.querySelectorAll('.token')].map(one => one.textContent)") == ["so", "é", " ok"]
    assert page.text(".assistant strong") == "soé"
    assert page.run("[...document.querySelectorAll('.token')].map(one => one.className)") == [
        "token p4", "token p3", "token p2",
    ]  # fmt: skip
    page.hover(".token:nth-child(2)")
    rows = page.run("[...document.querySelectorAll('#alternatives tr')].map(row => row.innerText)")
    assert [row.split()[0] for row in rows] == ["likeliest", "\N{REPLACEMENT CHARACTER}"], "the drawn one comes last"


def test_settings_reach_the_request(page):
    answer_with(page, {"content": "yes"})
    fill(page, "system", "Be brief.")
    fill(page, "temperature", "0.5")
    fill(page, "top_p", "0.9")
    fill(page, "max_completion_tokens", "7")
    fill(page, "seed", "3")
    fill(page, "stop", "END\nend")
    ask(page, "hi")
    page.wait(DONE)
    assert page.run("asked") == {
        "model": "smollm2", "temperature": 0.5, "top_p": 0.9, "max_completion_tokens": 7, "seed": 3,
        "stop": ["END", "end"], "logprobs": True, "top_logprobs": 5, "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
    }  # fmt: skip


def test_settings_that_cannot_be_sent(page):
    fill(page, "tools", "[{")
    page.run("document.querySelector('#parameters details').open = false")
    ask(page, "hi")
    page.wait("document.activeElement.name === 'tools'")
    assert page.run("document.activeElement.validationMessage").startswith("No JSON")
    assert page.run("document.querySelector('#prompt').value") == "hi", "the message is not lost"
    assert page.run("document.querySelectorAll('article').length") == 0


def test_the_limit_of_tokens(page):
    fill(page, "max_completion_tokens", "3")
    ask(page, "hi")
    page.wait(DONE)
    assert page.text(".assistant .text") == "The capital of"
    assert page.text(".facts").startswith("cut at the token limit · 3 tokens")


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("[refuse overloaded]", "Max_queue_len: at most 1 requests may wait, 1 do. Try again in 1 s."),
        ("[error deadline]", "Timeout: the request did not end within its time limit."),
    ],
)
def test_an_error_in_words(browser, scripted, wish, words):
    page = browser.open(f"{scripted.url}/")  # a browser logs each refusal: no page of `open_page`
    page.wait(READY)
    ask(page, wish)
    page.wait(DONE)
    assert page.text(".problem") == words
    page.close()


def test_a_field_out_of_bounds_is_named(browser, scripted):
    page = browser.open(f"{scripted.url}/")
    page.wait(READY)
    fill(page, "top_p", "2")
    ask(page, "hi")
    page.wait(DONE)
    assert page.text(".problem").startswith("Top_p must be")
    page.close()


def test_a_server_that_dies_and_one_that_is_gone(browser, start_scripted):
    server = start_scripted()
    server.wait_ready()
    page = browser.open(f"{server.url}/")
    page.wait(READY)
    ask(page, "[die]")
    page.wait(DONE)
    assert page.text(".problem") == "The script says that the engine died."
    server.process.wait(PATIENCE)
    page.click("article:last-child .toolbar button")
    page.wait("document.querySelector('.problem')?.innerText === 'The server cannot be reached.'")
    page.wait("document.querySelector('#figures-problem').innerText === 'The server cannot be reached.'")
    page.close()


def test_what_a_model_or_a_person_writes_stays_text(page):
    evil = "<script>document.title = 'broken'</script> <img src=x onerror=\"document.title='broken'\"> **<b>bold</b>**"
    answer_with(
        page,
        {"reasoning": evil},
        {"content": f"{evil}\n```html\n{evil}\n```"},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": evil, "arguments": evil}}]},
    )
    ask(page, evil)
    page.wait(DONE)
    page.click("summary")
    assert page.run("document.title") == "Octavo"
    assert page.run("document.querySelectorAll('#log :is(script, img, b)').length") == 0
    assert page.text(".user .text") == evil
    assert page.text(".assistant strong") == "<b>bold</b>"
    assert page.text(".assistant pre code").strip() == evil
    assert page.text(".reasoning .plain") == evil
    assert page.text(".call p") == f"Calls {evil}"


def test_markdown(page):
    answer_with(
        page,
        {"content": "# Head\n\nA `b` c\nd\n\n- one\n- **two**\n  more\n\n3. three\n4. four\n\n```py\nx = 1\n\n# y"},
    )
    ask(page, "hi")
    page.wait(DONE)
    assert page.run("document.querySelector('.assistant .text').innerHTML") == (
        "<h3>Head</h3><p>A <code>b</code> c\nd</p><ul><li>one</li><li><strong>two</strong>\n  more</li></ul>"
        '<ol start="3"><li>three</li><li>four</li></ol><pre><code>x = 1\n\n# y</code></pre>'
    )


def test_reasoning_is_folded(page):
    answer_with(page, {"reasoning": "First", "reasoning_content": "First"}, {"reasoning": " this."}, {"content": "So."})
    ask(page, "hi")
    page.wait(DONE)
    assert page.run("document.querySelector('.reasoning').open") is False
    assert page.text(".assistant .text") == "So."
    page.click(".reasoning summary")
    assert page.text(".reasoning .plain") == "First this."


def test_tool_calls_and_their_results(page):
    answer_with(
        page,
        {"tool_calls": [{"index": 0, "id": "call-1", "type": "function", "function": {"name": "weather"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Pa'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": 'ris"}'}}]},
        finish="tool_calls",
    )
    tools = [{"type": "function", "function": {"name": "weather"}}]
    fill(page, "tools", json.dumps(tools))
    ask(page, "How is the weather?")
    page.wait(DONE)
    assert page.run("asked.tools") == tools
    assert page.text(".call p") == "Calls weather"
    assert page.text(".call pre") == '{\n  "city": "Paris"\n}'
    page.run("document.querySelector('.results textarea').focus()")
    page.type("sunny")
    page.press("Tab")
    page.press("Enter")
    page.wait("document.querySelectorAll('.facts').length === 2")
    call = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    assert page.run("asked.messages") == [
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "sunny", "tool_call_id": "call-1"},
    ]


def test_the_server_takes_the_results_of_its_tool_calls(page):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    fill(page, "tools", json.dumps(tools))
    call = {"name": "weather", "arguments": {"city": "Paris"}}
    ask(page, f"[say]Let me see. <tool_call>\n{json.dumps(call)}\n</tool_call>[/say]")
    page.wait(DONE)
    assert page.text(".assistant .text") == "Let me see."
    assert page.text(".call pre") == '{\n  "city": "Paris"\n}'
    page.run("document.querySelector('.results textarea').focus()")
    page.type("sunny")
    page.click(".results button")
    page.wait("document.querySelectorAll('.facts').length === 2")
    assert page.text(".tool .text") == "sunny"
    assert not page.text(".problem")


def test_history_regenerate_edit_and_clear(page):
    answer_with(page, {"content": "yes"})
    ask(page, "one")
    page.wait(DONE)
    ask(page, "two")
    page.wait("document.querySelectorAll('.facts').length === 2")
    said = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "two"},
    ]
    assert page.run("asked.messages") == said
    page.run("asked = null")
    page.click("article:last-child .toolbar button")
    page.wait(f"asked && {DONE}")
    assert page.run("asked.messages") == said
    page.click("article .toolbar button")
    assert page.run(FOCUSED) == "edit"
    page.press("Escape")
    assert page.text(".user .text") == "one"
    page.click("article .toolbar button")
    page.type(" more")
    page.press("Enter")
    page.wait("document.querySelectorAll('article').length === 2")
    page.wait(DONE)
    assert page.run("asked.messages") == [{"role": "user", "content": "one more"}]
    page.click("#clear")
    assert page.run("document.querySelectorAll('article').length") == 0
    assert page.text("#welcome")
    assert page.run(FOCUSED) == "prompt"


def test_an_answer_stopped_before_its_first_word_is_not_told_of(page):
    answer_with(page, finish="stop")
    ask(page, "one")
    page.wait(DONE)
    ask(page, "two")
    page.wait("document.querySelectorAll('.facts').length === 2")
    assert page.run("asked.messages") == [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]


def test_the_api_key_lives_in_the_tab_alone(page):
    page.run("window.keys = []; const real = fetch; window.fetch = (path, options) => "
             "(keys.push(options.headers.get('Authorization')), real(path, options))")  # fmt: skip
    fill(page, "key", "secret-key")
    page.wait("keys.includes('Bearer secret-key')")
    assert page.run("sessionStorage.getItem('octavo-api-key')") == "secret-key"
    assert page.run("localStorage.length") == 0
    assert page.run("document.cookie") == ""
    page.run("document.querySelector('[name=key]').select()")
    page.type("x")
    page.press("Tab")
    assert page.run("sessionStorage.getItem('octavo-api-key')") == "x"


def test_a_server_that_asks_for_a_key(browser, start_scripted):
    server = start_scripted("--api-key", "a-key-of-the-test-0123456789", "--guard-metrics")
    page = browser.open(f"{server.url}/")
    for problem in ("models-problem", "figures-problem"):
        page.wait(f"document.querySelector('#{problem}').innerText.endsWith('Enter an API key: Settings, More.')")
    fill(page, "key", "a-key-of-the-test-0123456789")
    page.wait(READY)
    ask(page, "hi")
    page.wait(DONE)
    assert page.text(".assistant .text").startswith("The capital")
    page.wait("document.querySelector('#models-problem').hidden && document.querySelector('#figures-problem').hidden")
    page.close()


def test_the_servers_figures_move_while_somebody_looks(page):
    figure = "[...document.querySelectorAll('dd span')].map(one => one.innerText)"
    page.wait(f"{figure}[0] === '0'")
    ask(page, "[slow]")
    page.wait(f"{figure}[0] === '1' && {figure}[2] === '10.0 %' && parseFloat({figure}[3]) > 0")
    page.press("Escape")
    page.wait(f"{figure}[0] === '0' && {figure}[4].includes('ms ·')")
    assert page.run("document.querySelector('dl path').getAttribute('d')").count("L") >= 1
    page.click("#figures summary")
    page.run("window.reads = 0; const real = fetch; window.fetch = (...all) => (reads++, real(...all))")
    page.run("new Promise(done => setTimeout(done, 2500))")
    assert page.run("reads") == 0, "nobody looks"
    page.click("#figures summary")
    page.wait("reads > 0")


def test_quantiles_and_rates(page):
    got = page.run(
        """import("./ui/metrics.js").then(({ parseMetrics, quantile, rate }) => {
          const text = (one, two, all, sum) => `# HELP a b\\na_bucket{m="x y",le="0.1"} ${one}
a_bucket{m="x y",le="0.2"} ${two}\\na_bucket{m="x y",le="+Inf"} ${all}\\nc{m="x"} ${sum}\\nc{m="y"} 1\\n`;
          const [before, now] = [parseMetrics(text(5, 5, 5, 10), 1), parseMetrics(text(5, 13, 15, 18), 3)];
          return [quantile(before, now, "a", 0.5), quantile(before, now, "a", 0.99), quantile(now, now, "a", 0.5),
                  rate(before, now, "c"), rate(now, before, "c"), rate(before, now, "nothing")];
        })"""
    )
    assert got == [pytest.approx(0.1625), 0.2, None, 4.0, None, None]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_events_however_they_are_cut(page, ends, size):
    stream = "data: é✨\n\n: comment\nevent: x\ndata:one\ndata:  two\n\n\ndata: unfinished".replace("\n", ends)
    got = page.run(
        f"""import("./ui/sse.js").then(async ({{ eventData }}) => {{
          const bytes = new TextEncoder().encode({json.dumps(stream)}), got = [];
          const body = new ReadableStream({{ start(to) {{
            for (let at = 0; at < bytes.length; at += {size}) to.enqueue(bytes.slice(at, at + {size}));
            to.close();
          }}}});
          for await (const data of eventData(body)) got.push(data);
          return got;
        }})"""
    )
    assert got == ["é✨", "one\n two"]


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_window(open_page, dark):
    page = open_page(width=360, height=640, dark=dark)
    ask(page, "a " + "very-" * 30 + "long word")
    page.wait(DONE)
    assert page.run("document.documentElement.scrollWidth") == 360
    assert page.run("document.querySelector('#log').scrollWidth <= 360")
    assert page.run("getComputedStyle(document.querySelector('#panel')).display") == "none"
    page.click("#panel-toggle")
    assert page.run("document.querySelector('#panel-toggle').ariaExpanded") == "true"
    assert page.run("document.querySelector('#panel').scrollWidth <= 360")
    assert page.run("getComputedStyle(document.querySelector('main')).display") == "none"
    assert page.text("#figures").startswith("Server")
    light = page.run("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).every(c => c > 128)")
    assert light is not dark


def test_all_controls_have_names(page):
    nameless = "[...document.querySelectorAll('input, select, textarea')].filter(one => !one.labels.length).length"
    assert page.run(nameless) == 0
    assert page.run("[...document.querySelectorAll('button')].filter(one => !one.textContent.trim()).length") == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="links are made by root")
def test_a_link_that_comes_up_ends_no_request(page):
    """A cluster on this machine makes links all the time. Six requests are under way, which is all that Chromium has
    connections for to one server: the seventh waits."""
    page.run(
        """(() => {
          const options = {method: "POST", headers: {"content-type": "application/json"}, signal: (window.six =
            new AbortController()).signal, body: JSON.stringify({model: document.querySelector("select").value,
            stream: true, messages: [{role: "user", content: "[slow]"}]})};
          return Promise.all(Array.from({length: 6}, () => fetch("v1/chat/completions", options)));
        })().then(() => 1)"""
    )
    page.run(
        "(fetch('v1/models').then(({ status }) => window.seventh = status, error => window.seventh = `${error}`), 1)"
    )
    link, peer = (f"octavo{os.getpid()}{end}" for end in "ab")
    subprocess.run(["ip", "link", "add", link, "type", "veth", "peer", "name", peer], check=True)
    try:
        for one in (link, peer):
            subprocess.run(["ip", "link", "set", one, "up"], check=True)
        page.run("new Promise(done => setTimeout(done, 6000))")  # Chromium tells itself of addresses seconds later
    finally:
        subprocess.run(["ip", "link", "delete", link], check=True)
    page.run("six.abort()")
    page.wait("window.seventh")
    assert page.run("seventh") == 200
