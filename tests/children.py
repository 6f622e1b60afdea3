"""The processes that a process has started, by the program that they run."""

import psutil


def children(program: str, parent: int | None = None, *, recursive: bool = False) -> list[psutil.Process]:
    """Those of this process, or of another one, with this word in their command lines. Who has ended, such as another
    test's, is passed over. recursive: their own children too."""
    every = psutil.Process(parent).children(recursive=recursive)
    return [each for each in every if program in _words(each)]


def _words(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
    except psutil.NoSuchProcess:
        return []
    return words
