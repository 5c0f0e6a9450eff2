"""The syntax of values on the command line: `word`, `'text'`, `(a, b)`, `Name(field=value)`.

Text is never executed. What a value means is decided by the type of its field (`objects.read`).
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

CALL = re.compile(r'([A-Za-z_]\w*)\s*\(')
FIELD = re.compile(r'\s*([A-Za-z_]\w*)\s*=')
WORD = re.compile(r'[^,()\[\]]*')
DEEPEST = 50  # values inside values
CLOSING = {'(': ')', '[': ']'}


@dataclasses.dataclass(frozen=True)
class Text:
    """A word, or text in quotes."""

    text: str
    quoted: bool = False

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Call:
    """`Name(field=value, ...)`."""

    name: str
    fields: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f'{self.name}({", ".join(f"{name}={value}" for name, value in self.fields)})'


@dataclasses.dataclass(frozen=True)
class Items:
    """`(value, ...)`."""

    items: tuple[Any, ...]

    def __str__(self) -> str:
        return f'({", ".join(map(str, self.items))})'


Value = Text | Call | Items


def parse(text: str) -> Value:
    """Parses a value.

    Raises:
        ValueError: the text does not follow the syntax; the message says where.
    """
    reader = _Reader(text)
    value = reader.value()
    if reader.peek():
        raise ValueError(f'wanted the end at {reader.text[reader.position :]!r:.60}')
    return value


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str):
        self.text, self.position, self.depth = text, 0, 0

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1
        return self.text[self.position : self.position + 1]

    def value(self) -> Value:
        """Reads one value."""
        first = self.peek()
        if first and first in '\'"':
            return self._quoted(first)
        if first in CLOSING:
            self.position += 1
            return Items(self._separated(CLOSING[first], self.value))
        if call := CALL.match(self.text, self.position):
            self.position = call.end()
            return Call(call[1], self._separated(')', self._field))
        word = WORD.match(self.text, self.position)
        assert word  # it matches the empty text
        self.position = word.end()
        return Text(word[0].strip())

    def _quoted(self, quote: str) -> Text:
        end = self.text.find(quote, self.position + 1)
        if end < 0:
            raise ValueError(f'there is no closing {quote}')
        text, self.position = self.text[self.position + 1 : end], end + 1
        return Text(text, quoted=True)

    def _separated(self, end: str, read_one: Callable[[], Any]) -> tuple[Any, ...]:
        """Reads items with commas between them, and the bracket that ends them."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f'values are nested deeper than {DEEPEST}')
        items = []
        while self.peek() != end:
            items.append(read_one())
            if self.peek() == ',':
                self.position += 1
            elif self.peek() != end:
                rest = self.text[self.position :] or 'the end'
                raise ValueError(f'wanted , or {end} at {rest!r:.60}')
        self.position += 1
        self.depth -= 1
        return tuple(items)

    def _field(self) -> tuple[str, Value]:
        name = FIELD.match(self.text, self.position)
        if not name:
            raise ValueError(f'wanted FIELD=VALUE at {self.text[self.position :]!r:.60}')
        self.position = name.end()
        return name[1], self.value()
