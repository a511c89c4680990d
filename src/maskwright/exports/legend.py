"""The strip under an overlay: colour, name and share of each label."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from maskwright.exports.lettering import font, shorten

PAPER, INK, FAINT = (255, 255, 255), (24, 26, 30), (128, 132, 140)
MOST = 60  # entries; the rest is counted in one line


@dataclass(frozen=True)
class Entry:
    """One line of a legend; `fill` is None for a label that was not found."""

    text: str
    share: float
    fill: tuple[int, int, int] | None


def draw_legend(entries: Sequence[Entry], width: int, size: int) -> Image.Image:
    """Entries in one row if they fit, otherwise in even columns that are read row by row.

    Args:
        entries: what to list, in order; from the 61st on they are only counted.
        width: of the strip, in pixels.
        size: font size in pixels.
    """
    letters, gap, line = font(size), 1.7 * size, round(size * 1.7)
    texts = [shorten(entry.text, size, min(width - 9 * size, 24 * size)) for entry in entries[:MOST]]
    lengths = [1.6 * size + letters.getlength(f"{text}  {_percent(e.share)}") for e, text in zip(entries, texts, strict=False)]
    if sum(lengths) + gap * len(lengths) <= width:
        starts = [(size + sum(lengths[:n]) + gap * n, 0) for n in range(len(lengths))]
    else:
        columns = max(1, int((width - 2 * size + gap) // (max(lengths) + gap)))
        starts = [(size + n % columns * (max(lengths) + gap), n // columns) for n in range(len(lengths))]
    rest = len(entries) - len(texts)
    rows = starts[-1][1] + 1 + bool(rest)
    strip = Image.new("RGB", (width, rows * line + size), PAPER)
    draw = ImageDraw.Draw(strip)
    for entry, text, (left, row) in zip(entries, texts, starts, strict=False):
        _draw_entry(draw, entry, text, left=left, middle=size / 2 + (row + 0.5) * line, size=size)
    if rest:
        draw.text((2.6 * size, strip.height - size / 2 - line / 2), f"and {rest} more", fill=FAINT, font=letters, anchor="lm")
    return strip


def _draw_entry(draw: ImageDraw.ImageDraw, entry: Entry, text: str, *, left: float, middle: float, size: int) -> None:
    """Swatch, name and share, beginning at `left`, around the height `middle`."""
    swatch = (left, middle - size * 0.55, left + size * 1.1, middle + size * 0.55)
    draw.rounded_rectangle(swatch, radius=size * 0.25, fill=entry.fill, outline=entry.fill or FAINT, width=max(1, size // 12))
    draw.text((left + size * 1.6, middle), text, fill=INK if entry.fill else FAINT, font=font(size), anchor="lm")
    after = left + size * 1.6 + font(size).getlength(f"{text}  ")
    draw.text((after, middle), _percent(entry.share), fill=FAINT, font=font(size), anchor="lm")


def _percent(share: float) -> str:
    if share == 0:
        return "absent"
    return "<0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"
