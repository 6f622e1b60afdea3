"""What a field of a request's body may hold, whichever API it is of: text, lists, prompts, nulls."""
