"""OpenAI's chat, completions and embeddings, and vLLM's tokenizer: requests to generations, pieces to chunks."""
