"""The way of an LLMService from an event to the objects that it owns: watched, queued, reconciled."""
