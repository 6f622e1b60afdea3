"""Octavo's Kubernetes operator: turns an LLMService into the objects that serve it."""
