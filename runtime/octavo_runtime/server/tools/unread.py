"""Text of an answer that has come and is not settled."""

from collections.abc import Callable

from octavo_runtime.server.reasoning.splitter import suffix_in
from octavo_runtime.server.tools.event import Event


class Unread:
    """text: what nobody has read. held: what came before it, and is content if no call follows. finished: whether no
    more text comes."""

    def __init__(self) -> None:
        self.text = ""
        self.held = ""
        self.finished = False

    def add(self, text: str, *, finished: bool) -> None:
        """Takes the next piece of the answer."""
        self.text += text
        self.finished = finished

    def take(self, count: int) -> str:
        """So many characters, which are read now."""
        taken, self.text = self.text[:count], self.text[count:]
        return taken

    def hold(self, count: int) -> None:
        """Holds so many characters."""
        self.held += self.take(count)

    def release(self) -> str:
        """What is held, which is read now."""
        held, self.held = self.held, ""
        return held

    def hold_blanks(self) -> None:
        self.hold(len(self.text) - len(self.text.lstrip()))

    def skip_blanks(self) -> None:
        self.text = self.text.lstrip()

    def prose(self, marker: str) -> tuple[str, bool]:
        """The text before a marker, which is held then with the blanks before it, and whether there is one."""
        before, found, _ = self.text.partition(marker)
        shown = before.rstrip()
        if found:
            taken = self.take(len(shown))
            self.hold(len(before) - len(shown) + len(marker))
            return taken, True
        if self.finished:
            return self.take(len(self.text)), False
        return self.take(len(self.text[: len(self.text) - suffix_in(self.text, marker)].rstrip())), False


def settle(unread: Unread, step: Callable[[], list[Event] | None]) -> list[Event]:
    """The events of all steps that the text allows. step: takes what it can settle and returns its events; None where
    it needs more text, or where the answer has ended."""
    events: list[Event] = []
    while unread.text or unread.finished:
        found = step()
        if found is None:
            break
        events += found
    return events
