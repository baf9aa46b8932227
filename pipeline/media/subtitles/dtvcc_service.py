"""One service of CEA-708 captions: its codes write into up to eight windows.

After ANSI/CTA-708-E. Kept is the text and in which order it is read, not how it is drawn:
attributes of pens and windows are passed over, and every line is read from left to right. Whatever
the bytes are, nothing raises: what is not understood is skipped by its length. Runs in the child
only.
"""

_EXT1, _P16 = 0x10, 0x18
_BS, _FF, _CR, _HCR = 0x08, 0x0C, 0x0D, 0x0E
_CLW, _DSW, _HDW, _TGW, _DLW, _DLY, _DLC, _RST = range(0x88, 0x90)
_SPL = 0x92
_DEFINE = range(0x98, 0xA0)
#: Bytes behind the codes 0x80 to 0x9F.
_PARAMETERS = dict.fromkeys(range(_CLW, _DLC), 1) | dict.fromkeys(_DEFINE, 6)
_PARAMETERS |= {0x90: 2, 0x91: 3, _SPL: 2, 0x97: 4}
#: Codes that wait while the service is delayed; more than these end the delay.
_MAX_DELAYED = 128
#: Predefined windows whose lines roll up.
_ROLL_UP_STYLES = frozenset({4, 5, 6})
#: What the bits of a definition and of a pen location can say.
_MAX_ROWS, _MAX_COLUMNS = 16, 64
_MUSIC = "\N{EIGHTH NOTE}"
#: Characters behind EXT1 (sets G2 and G3); receivers show ``_`` for the others.
_EXTENDED = {
    0x20: " ", 0x21: " ", 0x25: "\N{HORIZONTAL ELLIPSIS}", 0x2A: "Š", 0x2C: "Œ",
    0x30: "\N{FULL BLOCK}", 0x31: "\N{LEFT SINGLE QUOTATION MARK}",
    0x32: "\N{RIGHT SINGLE QUOTATION MARK}", 0x33: "\N{LEFT DOUBLE QUOTATION MARK}",
    0x34: "\N{RIGHT DOUBLE QUOTATION MARK}", 0x35: "\N{BULLET}", 0x39: "\N{TRADE MARK SIGN}",
    0x3A: "š", 0x3C: "œ", 0x3D: "\N{SERVICE MARK}", 0x3F: "Ÿ",
    0x76: "⅛", 0x77: "⅜", 0x78: "⅝", 0x79: "⅞",
    0x7A: "│", 0x7B: "┐", 0x7C: "└", 0x7D: "─", 0x7E: "┘", 0x7F: "┌", 0xA0: "[CC]",
}  # fmt: skip


class Window:
    """Rows of characters. Its definition bounds them when a line scrolls only: text that an encoder
    writes beyond its own window is not lost."""

    def __init__(self) -> None:
        self.definition = b""
        self.is_visible = False
        #: Lines move up: each is a caption of its own.
        self.rolls = False
        #: Of the upper left corner, downwards and to the right, in hundredths of the screen.
        self.place = (0.0, 0.0)
        self._row_count = 1
        self._rows: list[dict[int, str]] = [{} for _ in range(_MAX_ROWS)]
        self._row = self._column = 0
        self._lines: tuple[str, ...] | None = None

    def define(self, definition: bytes) -> None:
        """``definition``: six bytes. Text that is there stays."""
        self.definition = definition
        self.is_visible = bool(definition[0] & 0x20)
        is_relative, top, left = definition[1] & 0x80, definition[1] & 0x7F, definition[2]
        anchor, self._row_count = min(definition[3] >> 4, 8), (definition[3] & 0xF) + 1
        column_count = (definition[4] & 0x3F) + 1
        style = definition[5] >> 3 & 7
        if style:
            self.rolls = style in _ROLL_UP_STYLES
        # The screen has 75 by 210 places, and room for 15 rows of 42 letters.
        self.place = (
            top * (1 if is_relative else 100 / 75) - self._row_count * 100 / 15 * (anchor // 3) / 2,
            left * (1 if is_relative else 100 / 210) - column_count * 100 / 42 * (anchor % 3) / 2,
        )

    @property
    def lines(self) -> tuple[str, ...]:
        if self._lines is None:
            rows = (
                "".join(row.get(column, " ") for column in range(min(row), max(row) + 1))
                for row in self._rows
                if row
            )
            self._lines = tuple(filter(None, (" ".join(row.split()) for row in rows)))
        return self._lines

    def write(self, character: str) -> None:
        if self._column == _MAX_COLUMNS:
            if self.rolls or self._row + 1 == _MAX_ROWS:
                self.new_line()
            else:
                self.move_pen(self._row + 1, 0)
        self._rows[self._row][self._column] = character
        self._column += 1
        self._lines = None

    def back(self) -> None:
        self._column = max(0, self._column - 1)
        self._rows[self._row].pop(self._column, None)
        self._lines = None

    def new_line(self) -> None:
        self._column = 0
        if self._row + 1 < self._row_count:
            self._row += 1
            return
        # Where an encoder counts rows from the top of the screen, the window ends with this one.
        del self._rows[self._row + 1 - self._row_count]
        self._rows.insert(self._row, {})
        self._lines = None
        self.rolls = self.rolls or self.is_visible

    def clear_line(self) -> bool:
        """Whether there was something."""
        had = bool(self._rows[self._row])
        self._rows[self._row] = {}
        self._column = 0
        self._lines = None
        return had

    def clear(self) -> bool:
        """Whether there was something."""
        had = any(self._rows)
        self._rows = [{} for _ in range(_MAX_ROWS)]
        self._lines = None
        return had

    def move_pen(self, row: int, column: int) -> None:
        self._row, self._column = row % _MAX_ROWS, column % _MAX_COLUMNS


class Service:
    """The windows of a service, as the codes read so far have them."""

    def __init__(self) -> None:
        self._windows: dict[int, Window] = {}
        self._current: Window | None = None
        #: Of a code whose end is not there yet.
        self._input = bytearray()
        self._delayed: list[bytes] = []
        #: In ms; ``None``: nothing is delayed.
        self.delayed_until: int | None = None
        #: What can be seen may be another than it was.
        self.is_changed = False
        #: … and not only because something was written: text was taken down, put up, or replaced.
        self.is_cut = False
        #: Codes of characters of two bytes, which stand in the text as they are.
        self.wide: set[int] = set()

    def screen(self) -> tuple[str, ...]:
        """Lines that can be seen, from top to bottom."""
        shown = sorted((w for w in self._windows.values() if w.is_visible), key=lambda w: w.place)
        return tuple(line for window in shown for line in window.lines)

    @property
    def rolls(self) -> bool:
        return any(window.rolls for window in self._windows.values() if window.is_visible)

    def read(self, block: bytes, now_ms: int, *, is_whole: bool) -> None:
        """``is_whole``: the end of the block is not missing."""
        self._input += block
        at = 0
        while at < len(self._input):
            end = at + _length(self._input, at)
            if end > len(self._input):
                break
            self._receive(bytes(self._input[at:end]), now_ms)
            at = end
        del self._input[: at if is_whole else len(self._input)]

    def lose(self) -> None:
        """Packets are missing: what is seen may have been taken down in one of them."""
        self._input.clear()
        for window in self._windows.values():
            if window.is_visible and window.clear():
                self._touch(window, is_cut=True)

    def run_delayed(self, now_ms: int) -> None:
        codes, self._delayed, self.delayed_until = self._delayed, [], None
        for number, code in enumerate(codes, start=1):
            self._execute(code, now_ms)
            if self.delayed_until is not None:
                self._delayed = codes[number:]
                return

    def _receive(self, code: bytes, now_ms: int) -> None:
        if len(self._delayed) >= _MAX_DELAYED:
            self.run_delayed(now_ms)
        while self.delayed_until is not None and code[0] in {_DLC, _RST}:
            self.run_delayed(now_ms)
        if self.delayed_until is None:
            self._execute(code, now_ms)
        else:
            self._delayed.append(code)

    def _execute(self, code: bytes, now_ms: int) -> None:
        first = code[0]
        if first == _DLY:
            self.delayed_until = now_ms + 100 * code[1]
        elif first == _RST:
            self._for_windows(_DLW, 0xFF)
        elif _CLW <= first <= _DLW:
            self._for_windows(first, code[1])
        elif first in _DEFINE:
            self._define(first - _DEFINE.start, code[1:])
        elif 0x80 <= first <= 0x87:
            self._current = self._windows.get(first - 0x80, self._current)
        elif self._current is not None:
            self._write(self._current, code)

    def _write(self, window: Window, code: bytes) -> None:
        first, is_cut = code[0], False
        if first == _BS:
            window.back()
        elif first == _CR:
            window.new_line()
        elif first == _HCR:
            is_cut = window.clear_line()
        elif first == _FF:
            is_cut = window.clear()
            window.move_pen(0, 0)
        elif first == _SPL:
            window.move_pen(code[1], code[2])
        else:
            character = self._character(code)
            if character is None:
                return
            window.write(character)
        self._touch(window, is_cut=is_cut)

    def _character(self, code: bytes) -> str | None:
        first = code[0]
        if first == _P16:
            wide = code[1] << 8 | code[2]
            self.wide.add(wide)
            return chr(wide)
        if first == _EXT1:
            # C2 and C3 hold no commands yet.
            return None if code[1] & 0x7F < 0x20 else _EXTENDED.get(code[1], "_")
        if first == 0x7F:
            return _MUSIC
        return chr(first) if 0x20 <= first < 0x7F or first >= 0xA0 else None

    def _define(self, number: int, definition: bytes) -> None:
        window = self._current = self._windows.setdefault(number, Window())
        # Definitions are sent again and again for receivers that have just been switched on.
        if window.definition != definition:
            was_visible = window.is_visible
            window.define(definition)
            self.is_changed = True
            self.is_cut |= was_visible != window.is_visible

    def _for_windows(self, command: int, bits: int) -> None:
        for number in [number for number in self._windows if bits >> number & 1]:
            window = self._windows[number]
            was_visible = window.is_visible
            if command == _CLW:
                if window.clear():
                    self._touch(window, is_cut=True)
                continue
            window.is_visible = command == _DSW or (command == _TGW and not was_visible)
            if command == _DLW:
                del self._windows[number]
                self._current = None if self._current is window else self._current
            if was_visible != window.is_visible:
                self.is_changed = self.is_cut = True

    def _touch(self, window: Window, *, is_cut: bool) -> None:
        if window.is_visible:
            self.is_changed = True
            self.is_cut |= is_cut


def _length(data: bytearray, at: int) -> int:
    """Bytes of the code that begins at ``at``; more than are there, if that is not known yet."""
    first = data[at]
    if first == _EXT1:
        return _extended_length(data[at + 1 : at + 3])
    if first < 0x20:
        return 1 + (first >= 0x10) + (first >= 0x18)
    return 1 + _PARAMETERS.get(first, 0)


def _extended_length(behind: bytearray) -> int:
    if not behind:
        return 2
    second = behind[0]
    if second < 0x20:
        return 2 + (second >> 3)
    if 0x80 <= second < 0x90:
        return 6 if second < 0x88 else 7
    if 0x90 <= second < 0xA0:
        # How long these are stands in the byte behind them.
        return 3 if len(behind) == 1 else 3 + (behind[1] & 0x1F)
    return 2
