"""OpenAI's Responses API, its stateless part: its requests to generations, pieces to its items and events."""
