# SPDX-License-Identifier: Apache-2.0
"""Text for people: columns that line up, colour where it is wanted.

Colour only on a terminal, never with NO_COLOR set (https://no-color.org) or TERM=dumb.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TextIO

_CODES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "dim": "2"}


class Terminal:
    """Writes lines to one stream."""

    def __init__(self, stream: TextIO, environment: Mapping[str, str] | None = None) -> None:
        given = os.environ if environment is None else environment
        self._stream = stream
        self._colour = stream.isatty() and not given.get("NO_COLOR") and given.get("TERM") != "dumb"

    def line(self, text: str = "") -> None:
        """One line."""
        print(text, file=self._stream)

    def paint(self, text: str, *styles: str) -> str:
        """The text in colour, or as it is."""
        if not self._colour or not styles:
            return text
        return f"\033[{';'.join(_CODES[style] for style in styles)}m{text}\033[0m"

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
        """Columns two spaces apart; those named in `right` end in line."""
        widths = [max(len(headers[i]), *(len(row[i]) for row in rows), 0) for i in range(len(headers))]

        def cell(text: str, index: int) -> str:
            return text.rjust(widths[index]) if headers[index] in right else text.ljust(widths[index])

        self.line(self.paint("  ".join(cell(text, i) for i, text in enumerate(headers)).rstrip(), "dim"))
        for row in rows:
            self.line("  ".join(cell(text, i) for i, text in enumerate(row)).rstrip())


def amount(count: int) -> str:
    """Bytes for people."""
    for shift, name in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << shift:
            return f"{count / (1 << shift):.1f} {name}"
    return f"{count} B"


def span(seconds: float) -> str:
    """A duration for people: its two largest units."""
    whole = int(seconds)
    for unit, name, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // below} {lower}"
    return f"{whole} s"
