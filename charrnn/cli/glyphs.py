"""Characters as they can be seen: control characters, blanks and lone combining marks by a sign of their own."""

import unicodedata
from itertools import pairwise

END = "¶"
NEWLINE = "↵"
_JOINER = "\N{ZERO WIDTH JOINER}"
_JOINED = (_JOINER, "\N{ZERO WIDTH NON-JOINER}", *map(chr, range(0x1F3FB, 0x1F400)))
_EIGHTHS = " ▏▎▍▌▋▊▉"
_SIGNS = {" ": "␣", "\n": NEWLINE, "\t": "⇥", "\r": "␍", "\N{NO-BREAK SPACE}": "⍽", "\N{IDEOGRAPHIC SPACE}": "⬚"}
_NAMES = {" ": "space", "\n": "newline", "\t": "tab", "\r": "carriage return", "\N{REPLACEMENT CHARACTER}": "unknown"}


def glyph(character: str) -> str:
    """One sign for a character; the empty text, a document's end, has one too."""
    if not character:
        return END
    if character in _SIGNS:
        return _SIGNS[character]
    code = ord(character)
    if code < 32 or code == 127:
        return chr(0x2421 if code == 127 else 0x2400 + code)
    if unicodedata.combining(character):
        return "◌" + character
    return character if character.isprintable() else f"<U+{code:04X}>"


def joins(before: str, character: str) -> bool:
    """Whether a character is drawn as one with the one before it: a mark, a joiner and what it joins, a skin colour."""
    if not (before and character) or not (before.isprintable() or before == _JOINER):
        return False
    return unicodedata.category(character)[0] == "M" or character in _JOINED or before == _JOINER


def visible(text: str) -> str:
    """A text in which nothing acts on a terminal or hides: all but plain spaces by their signs."""
    return "".join(
        character if character == " " or joins(before, character) else glyph(character)
        for before, character in pairwise("\n" + text)
    )


def named(character: str) -> str:
    """What a character that has no look of its own is called, else nothing."""
    return "end of text" if not character else _NAMES.get(character, "")


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def column_after(text: str, width: int) -> int:
    """In which column the cursor stands after a text that is wrapped at a width."""
    column = 0
    for before, character in pairwise("\n" + text):
        taken = 0 if joins(before, character) else columns(character)
        column = taken if column + taken > width else column + taken
    return column


def fitted(text: str, width: int) -> str:
    """A text in exactly so many columns: cut, or padded with spaces."""
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def ending(text: str, width: int) -> str:
    """A text, or as much of its end as fits so many columns."""
    if columns(text) <= width:
        return text
    kept = text[max(0, len(text) - width + 1) :]
    while columns(kept) > width - 1 and kept:
        kept = kept[1:]
    return ("…" + kept)[:width]


def fitting(parts: list[str], width: int) -> str:
    """As many of the parts, from the first on, as fit in the width."""
    line = parts[0] if columns(parts[0]) <= width else fitted(parts[0], width)
    for part in parts[1:]:
        if columns(f"{line} · {part}") > width:
            break
        line += f" · {part}"
    return line


def bar(share: float, width: int) -> str:
    """A bar as long as a share from 0 to 1 of so many columns, to an eighth of one."""
    full, part = divmod(round(8 * width * share), 8)
    return "█" * full + _EIGHTHS[part].strip()


def percent(share: float) -> str:
    """A probability in two digits or so."""
    value = 100 * share
    if value < 0.1:
        return "<0.1%"
    return f"{value:.0f}%" if value >= 9.95 else f"{value:.1f}%"
