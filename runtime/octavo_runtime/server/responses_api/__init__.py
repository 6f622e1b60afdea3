"""OpenAI's Responses API, its stateless part, as a translation to and from chat."""
