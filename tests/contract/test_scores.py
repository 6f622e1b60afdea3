"""POST /v1/rerank, /v1/score and /v1/classify over HTTP, by angles between vectors and by models that read pairs; and
what an encoder answers to requests for text."""

import sys
from pathlib import Path

import httpx
import pytest
import torch
from patience import PATIENCE

pytestmark = pytest.mark.slow

# Beside the unit tests' models: pytest imports by path.
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "runtime"))
QUERY, DOCUMENTS = "what is rain made of ?", ["the cat sat", "water and some other thing"]


@pytest.fixture(scope="module")
def reranker(tmp_path_factory, real_models):
    from encoder_models import save_encoder, tokenizer

    folder = tmp_path_factory.mktemp("model")
    model = save_encoder("bert", folder, labels=1)
    server = real_models(str(folder), "--dtype", "float32", "--device", "cpu", "--served-name", "ranker")
    server.wait_ready()
    return server, model, tokenizer("wordpiece")


def post(server, path: str, **body) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=PATIENCE, trust_env=False)


def refused(response: httpx.Response) -> str:
    assert response.status_code == 400, response.text
    return response.json()["error"]["message"]


def expected(reranker, texts: list[str]) -> list[float]:
    _, model, tokenizer = reranker
    with torch.inference_mode():
        return [
            float(torch.sigmoid(model(**tokenizer(QUERY, text, return_tensors="pt")).logits[0, 0])) for text in texts
        ]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_come_in_order_with_transformers_scores(reranker, path):
    scores = expected(reranker, DOCUMENTS)
    answer = post(reranker[0], path, model="ranker", query=QUERY, documents=[DOCUMENTS[0], {"text": DOCUMENTS[1]}])
    assert set(answer.json()) == {"id", "model", "usage", "results"}
    results = answer.json()["results"]
    assert [one["index"] for one in results] == sorted((0, 1), key=lambda index: -scores[index])
    for one in results:
        assert one["relevance_score"] == pytest.approx(scores[one["index"]], abs=1e-5)
        assert one["document"] == {"text": DOCUMENTS[one["index"]]}
    best = post(
        reranker[0], path, model="ranker", query=QUERY, documents=DOCUMENTS, top_n=1, return_documents=False
    ).json()
    assert [set(one) for one in best["results"]] == [{"index", "relevance_score"}]


def test_scores_of_pairs_in_vllms_shape(reranker):
    scores = expected(reranker, DOCUMENTS)
    answer = post(reranker[0], "/v1/score", model="ranker", text_1=QUERY, text_2=DOCUMENTS).json()
    assert answer["object"] == "list"
    assert [(one["index"], one["object"]) for one in answer["data"]] == [(0, "score"), (1, "score")]
    assert [one["score"] for one in answer["data"]] == pytest.approx(scores, abs=1e-5)
    two = post(reranker[0], "/score", model="ranker", text_1=[QUERY, QUERY], text_2=DOCUMENTS).json()
    assert [one["score"] for one in two["data"]] == pytest.approx(scores, abs=1e-5)
    bare = post(reranker[0], "/score", model="ranker", text_1=QUERY, text_2=DOCUMENTS, use_activation=False).json()
    assert torch.tensor([one["score"] for one in bare["data"]]).sigmoid().tolist() == pytest.approx(scores, abs=1e-5)


def test_an_instruction_is_refused_where_no_template_takes_it(reranker):
    said = "instruction: must be left out: this model reads texts without a template"
    body = {"model": "ranker", "query": QUERY, "documents": DOCUMENTS, "instruction": "find me rain"}
    assert refused(post(reranker[0], "/v1/rerank", **body)) == said


def test_what_is_too_long_is_refused_or_cut_as_transformers_cuts_it(reranker):
    server, model, tokenizer = reranker
    long = "water " * 200
    message = refused(post(server, "/v1/rerank", model="ranker", query=QUERY, documents=["rain", long]))
    assert message == "documents.1: must have at most 64 tokens, got 209"
    cut = post(server, "/v1/score", model="ranker", text_1=QUERY, text_2=long, truncate_prompt_tokens=-1).json()
    with torch.inference_mode():
        pair = tokenizer(QUERY, long, return_tensors="pt", truncation=True, max_length=64)
        score = float(torch.sigmoid(model(**pair).logits[0, 0]))
    assert cut["usage"]["prompt_tokens"] == 64
    assert cut["data"][0]["score"] == pytest.approx(score, abs=1e-5)


def test_requests_that_a_scorer_cannot_serve_name_those_that_it_does(reranker):
    server = reranker[0]
    said = "model: 'ranker' scores texts: it serves /v1/rerank, /v1/score and /v1/classify"
    messages = [{"role": "user", "content": "Hello"}]
    assert refused(post(server, "/v1/chat/completions", model="ranker", messages=messages)) == said
    assert refused(post(server, "/v1/completions", model="ranker", prompt="Hello")) == said
    assert refused(post(server, "/v1/responses", model="ranker", input="Hello", store=False)) == said
    assert refused(post(server, "/v1/embeddings", model="ranker", input="Hello")) == said
    [listed] = httpx.get(f"{server.url}/v1/models", trust_env=False, timeout=PATIENCE).json()["data"]
    assert listed["task"] == "score"


def test_classes_with_their_names(reranker):
    answer = post(reranker[0], "/v1/classify", model="ranker", input=["rain", "the cat"]).json()
    assert [(one["index"], one["label"], one["num_classes"]) for one in answer["data"]] == [
        (0, "LABEL_0", 1),
        (1, "LABEL_0", 1),
    ]


def test_a_model_without_scores_compares_vectors(scripted):
    answer = post(scripted, "/v1/score", model="smollm2", text_1="one", text_2=["one", "two words"]).json()
    same, other = (one["score"] for one in answer["data"])
    assert same == pytest.approx(1.0, abs=1e-6)
    assert other < 0.999
    ranked = post(scripted, "/v1/rerank", model="smollm2", query="one", documents=["two words", "one"]).json()
    assert [one["index"] for one in ranked["results"]] == [1, 0]
    assert "gives no scores by labels" in refused(post(scripted, "/v1/classify", model="smollm2", input="one"))


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "/v1/score",
            {"text_1": ["a", "b"], "text_2": "c"},
            "text_1: must be one text or as many as text_2",
        ),
        ("/v1/score", {"text_1": [], "text_2": "c"}, "text_1: list should have at least 1 item"),
        ("/v1/score", {"text_1": "a", "text_2": ["c"] * 2049}, "text_2: list should have at most 2048 items"),
        ("/v1/score", {"text_1": "a", "text_2": [7]}, "text_2.0: should be a valid string, got 7"),
        ("/v1/rerank", {"query": "a", "documents": []}, "documents: "),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "instruction": "c"}, "instruction: must be left out: "),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "top_n": -1}, "top_n: "),
        ("/v1/score", {"text_1": "a", "text_2": "b", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens: "),
    ],
)
def test_bad_requests(scripted, path, body, message):
    assert refused(post(scripted, path, model="smollm2", **body)).startswith(message)
