"""Bounds on the shape of a JSON document, found without parsing it: a few passes at memory speed, so that a document
made to be costly is refused for less than its parsing would cost."""

MAX_DEPTH = 128
MAX_STRINGS = 2**15  # names of fields are strings too
MAX_CONTAINERS = 2**15
MAX_VALUES = 2**20
MAX_STRING_BYTES = 8 * 2**20

# Of one kind: which bracket closes which is for the parser to say.
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def broken_bound(document: bytes) -> str | None:
    """What a document breaks, in words that name bound and value; None where it may be parsed. Whether it is valid JSON
    is another question."""
    if b"\0" in document[:4] or document[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "must be JSON in UTF-8, got another encoding"
    # Left to right: a backslash that is escaped cannot escape the quote after it.
    text = document.replace(b"\\\\", b"").replace(b'\\"', b"")
    if (strings := text.count(b'"') // 2) > MAX_STRINGS:
        return f"must have at most {MAX_STRINGS} strings, names of fields included, got {strings}"
    parts = text.split(b'"')
    if (longest := max(map(len, parts[1::2]), default=0)) > MAX_STRING_BYTES:
        return f"must have no string of more than {MAX_STRING_BYTES} bytes, got one of {longest}"
    structure = b"".join(parts[::2])
    if (values := structure.count(b",")) > MAX_VALUES:
        return f"must have at most {MAX_VALUES} values, got {values}"
    if (containers := structure.count(b"[") + structure.count(b"{")) > MAX_CONTAINERS:
        return f"must have at most {MAX_CONTAINERS} lists and objects, got {containers}"
    if _deeper_than(MAX_DEPTH, structure.translate(_AS_SQUARE, _NO_BRACKETS)):
        return f"must nest at most {MAX_DEPTH} lists and objects in one another, and nests more"
    return None


def _deeper_than(depth: int, brackets: bytes) -> bool:
    """Whether `[` and `]` nest deeper. Each pass takes the innermost pairs away, and so one level."""
    for _ in range(depth):
        outer = brackets.replace(b"[]", b"")
        if outer == brackets:
            break
        brackets = outer
    return b"[]" in brackets or brackets.count(b"[") > depth  # what never closes is as deep as it is open
