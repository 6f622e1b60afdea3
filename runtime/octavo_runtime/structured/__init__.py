"""Answers of a given form: grammars, compiled apart and followed token by token."""
