"""A large JSON object read element by element, with the place of each element in the file.

`json.load` makes a Python object of every number of LIVECell's annotations, gigabytes of them, to
be held all at once. Here one element lives at a time, and its span in the file is enough to read
it again when it is needed. The parser is the standard library's own, so what is JSON there is JSON
here, and numbers are the same to the last bit.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from unet_keras.errors import InputError

_WINDOW_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_skip_space = re.compile(r"[ \t\n\r]*").match


class Element(NamedTuple):
    """One element of a container below the top level, or a whole value that is no container.

    Attributes:
        key: The top-level key it is under.
        value: The element, parsed.
        start: Its first byte in the file.
        length: Its length in bytes.
    """

    key: str
    value: Any
    start: int
    length: int


@dataclass
class JsonStream:
    """The elements of a JSON object's members, in the order of the file.

    Attributes:
        path: A file that holds one JSON object, in UTF-8.
        whole: Top-level keys whose strings are decoded as UTF-8; elsewhere only ASCII is exact.
        keys: The top-level keys met so far.
        digest: SHA-256 of the file, hexadecimal; complete after the last element.
    """

    path: Path
    whole: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.keys: list[str] = []
        self.digest = ""
        self._decoder = json.JSONDecoder()
        # Bytes 0 to 255 as characters of the same number: positions in the text are positions
        # in the file, and the parser's fast path for one byte a character is taken.
        self._text = ""
        self._start = 0  # where in the file the text begins
        self._position = 0  # where in the text the last element ended
        self._parsed_length = 0
        self._ended = False

    def __iter__(self) -> Iterator[Element]:
        """Yield each element of each member of the top-level object.

        Raises:
            InputError: The file is absent, not JSON, or holds something else than an object.
        """
        if not self.path.is_file():
            raise InputError(f"There is no file {self.path}; check the path.")
        with self.path.open("rb") as self._file:
            self._hash = hashlib.sha256()
            position = self._after_space(len(_BYTE_ORDER_MARK) if self._has_mark() else 0)
            if self._text[position : position + 1] != "{":
                self._fail("expected a JSON object", position)
            for key, value_position in self._members(position):
                yield from self._elements(key, value_position)
            self.digest = self._hash.hexdigest()

    def _members(self, position: int) -> Iterator[tuple[str, int]]:
        """Yield each top-level key and where its value begins; `_position` is where that ends."""
        position = self._after_space(position + 1)
        closed = self._text[position : position + 1] == "}"
        if closed:
            position += 1
        while not closed:
            key, position = self._parse(position)
            if not isinstance(key, str):
                self._fail("expected a key in double quotes", position)
            position = self._expect(":", position)
            self.keys.append(key)
            yield key, self._after_space(position)
            position, closed = self._next(self._position, "}")
        position = self._after_space(position)
        if position < len(self._text):
            self._fail("expected the end of the file", position)

    def _elements(self, key: str, position: int) -> Iterator[Element]:
        opening = self._text[position : position + 1]
        if opening not in ("[", "{"):
            yield self._element(key, position)
            return
        closing = "]" if opening == "[" else "}"
        position = self._after_space(position + 1)
        closed = self._text[position : position + 1] == closing
        if closed:
            position += 1
        while not closed:
            if opening == "{":
                _, position = self._parse(position)
                position = self._after_space(self._expect(":", position))
            yield self._element(key, position)
            position, closed = self._next(self._position, closing)
        self._position = position

    def _element(self, key: str, position: int) -> Element:
        """Parse the element at a position; `_position` is where it ends."""
        value, end = self._parse(position)
        start = end - self._parsed_length
        if key in self.whole:
            try:
                value = json.loads(self._text[start:end].encode("latin-1").decode())
            except UnicodeDecodeError as error:
                self._fail("expected text in UTF-8: save it so", start + error.start)
        self._position = end
        return Element(key, value, self._start + start, end - start)

    def _parse(self, position: int) -> tuple[Any, int]:
        """Parse the value at a position of the text; return it and where it ends in the text."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, position)
                # A number near the end of the window may go on behind it: "1.5e+" is parsed as
                # 1.5 as long as no digit is seen.
                if end + 2 < len(self._text) or self._ended:
                    self._parsed_length = end - position
                    return value, end
            except json.JSONDecodeError as error:
                if self._ended or self._is_wrong(error):
                    self._fail(error.msg, error.pos)
            except RecursionError:
                self._fail("nested too deeply", position)
            position = self._read_on(position)

    def _next(self, position: int, closing: str) -> tuple[int, bool]:
        """Step over a comma or the closing bracket; return where, and whether it closed."""
        position = self._after_space(position)
        mark = self._text[position : position + 1]
        if mark == ",":
            return self._after_space(position + 1), False
        if mark != closing:
            self._fail(f"expected ',' or '{closing}'", position)
        return position + 1, True

    def _expect(self, mark: str, position: int) -> int:
        position = self._after_space(position)
        if self._text[position : position + 1] != mark:
            self._fail(f"expected '{mark}'", position)
        return position + 1

    def _after_space(self, position: int) -> int:
        """Return the position of the next character that is no space, reading on where needed."""
        while True:
            match = _skip_space(self._text, position)
            position = match.end() if match else position
            if position < len(self._text) or self._ended:
                return position
            position = self._read_on(position)

    def _read_on(self, position: int) -> int:
        """Drop the text before a position and read on; return the position in the new text.

        At least as much is read as is kept, so that one huge element costs linear time.
        """
        kept = self._text[position:]
        data = self._file.read(max(_WINDOW_BYTES, len(kept)))
        self._hash.update(data)
        self._ended = not data
        self._start += position
        self._text = kept + data.decode("latin-1")
        return 0

    def _has_mark(self) -> bool:
        while len(self._text) < len(_BYTE_ORDER_MARK) and not self._ended:
            self._read_on(0)
        return self._text.startswith(_BYTE_ORDER_MARK.decode("latin-1"))

    def _is_wrong(self, error: json.JSONDecodeError) -> bool:
        """Whether an error would stay whatever followed behind the window."""
        near_end = error.pos > len(self._text) - 16
        return not near_end and not error.msg.startswith("Unterminated string")

    def _fail(self, expected: str, position: int) -> NoReturn:
        ended = self._ended and position >= len(self._text)
        found = "the file ends" if ended else f"stands {self._text[position : position + 20]!r}"
        raise InputError(
            f"{self.path} is not COCO JSON: at byte {self._start + position} {found} "
            f"({expected}). It may be cut off or damaged; fetch it again."
        )
