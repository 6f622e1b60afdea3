"""The books of the KV cache: which block holds what, and for whom. No tensor is here."""
