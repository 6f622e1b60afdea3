"""The HTTP server: one room a noun. A request goes openai | responses | anthropic -> generation -> engine, and its
answer comes back as pieces, which each API writes in its own objects."""
