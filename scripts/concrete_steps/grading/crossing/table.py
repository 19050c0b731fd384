"""Objects that both processes know, by number."""

from __future__ import annotations

import weakref
from typing import Any


class Table:
    """Numbers of objects. The judge's are even, the sandbox's odd, so that each side can give some.

    What can be is held weakly: when nobody else holds it, it is forgotten, and the other side told so.
    """

    def __init__(self, first: int):
        self.next = first
        self.objects: dict[int, Any] = {}  # a weak reference, or a function that gives the object
        self.numbers: dict[int, int] = {}  # by id
        self.gone: list[int] = []
        self.pins: dict[int, Any] = {}

    def give(self, thing: Any, strong: bool = False) -> int:
        """A new number for the object."""
        self.next += 2
        return self.put(self.next - 2, thing, strong)

    def put(self, number: int, thing: Any, strong: bool = False) -> int:
        identity = id(thing)

        def forget(_=None):
            if self.numbers.get(identity) == number:
                del self.numbers[identity]
            if self.objects.pop(number, None) is not None:
                self.gone.append(number)

        try:
            if strong:
                raise TypeError
            self.objects[number] = weakref.ref(thing, forget)
        except TypeError:
            self.objects[number] = lambda: thing
        self.numbers[identity] = number
        return number

    def number(self, thing: Any) -> int | None:
        number = self.numbers.get(id(thing))
        return number if number is not None and self.get(number) is thing else None

    def get(self, number: int) -> Any:
        """The object, or None if it is not known (any more)."""
        held = self.objects.get(number)
        return None if held is None else held()

    def drop(self, number: int) -> None:
        """Forget it without a word."""
        thing = self.get(number)
        self.objects.pop(number, None)
        self.pins.pop(number, None)
        if thing is not None and self.numbers.get(id(thing)) == number:
            del self.numbers[id(thing)]

    def live(self) -> list[tuple[int, Any]]:
        return [(number, thing) for number, held in list(self.objects.items()) if (thing := held()) is not None]

    def pin(self) -> None:
        """Hold on to all, until `unpin`."""
        self.pins = dict(self.live())

    def unpin(self, lent: int | None = None) -> None:
        """Let go: of all, or of what has numbers of this parity."""
        self.pins = {number: thing for number, thing in self.pins.items() if lent is not None and number % 2 != lent}

    def take_gone(self) -> list[int]:
        gone, self.gone = self.gone, []
        return gone
