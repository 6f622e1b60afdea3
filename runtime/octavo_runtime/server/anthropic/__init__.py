"""Anthropic's Messages API: its requests to generations, pieces to its blocks and events."""
