"""`octavo check`, `octavo why` and `octavo bundle`: what an LLMService is like on a live cluster, asked with the
rights of whoever runs them. Evidence is gathered once; rules and the checklist read it and know no cluster."""
