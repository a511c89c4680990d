"""preview.png: some of the kept pairs on one sheet, each picture beside its mask, with the prompt below."""

import io
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from maskwright.discovery.pairs import IGNORE, Pair
from maskwright.discovery.store import PairStore
from maskwright.discovery.writing import explained, write_whole
from maskwright.exports.legend import INK, PAPER, Entry, draw_legend
from maskwright.exports.lettering import font, readable, shorten
from maskwright.exports.palette import COLOURS, colour

MOST, COLUMNS = 36, 4
SIDE = 192  # pixels of the longer side of a picture on the sheet
GAP, LETTERS = 12, 15
LINES = 2  # of prompt under a pair
FINE = 2  # masks are painted at twice the size and reduced, which smooths their outlines
TINT, SHADE = 0.55, 0.45  # opacity of a label's colour, and of the black on the background
UNSURE = (255, 255, 255)  # colour of what a mask leaves out


def write_preview(store: PairStore) -> None:
    """Writes preview.png.

    Raises:
        OutputError: it cannot be written.
    """
    content = io.BytesIO()
    draw_preview(store).save(content, "PNG")
    with explained(store.folder):
        write_whole(store.folder / "preview.png", content.getvalue())


def draw_preview(store: PairStore) -> Image.Image:
    """Up to 36 kept pairs in 4 columns, by number, with a line above that counts them and a legend below.

    Returns:
        RGB picture.
    """
    chosen = choose(store.kept, store.names)
    columns = min(COLUMNS, max(1, len(chosen)))
    pairs = [_draw_pair(store, pair) for pair in chosen]
    tall = max((pair.height for pair in pairs), default=0)
    width, head = max(2 * SIDE, columns * (2 * SIDE + GAP) - GAP) + 2 * GAP, 3 * LETTERS
    legend = draw_legend(_entries(store, chosen), width, LETTERS)
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (width, head + rows * (tall + GAP) + legend.height), PAPER)
    title = f"{len(chosen)} of {len(store.kept)} pairs: picture, and its mask over it (white: left out)"
    line = shorten(title if chosen else "no pair was kept", LETTERS, width - 2 * GAP)
    ImageDraw.Draw(sheet).text((GAP, head / 2), line, fill=INK, font=font(LETTERS), anchor="lm")
    for place, pair in enumerate(pairs):
        sheet.paste(pair, (GAP + place % columns * (2 * SIDE + GAP), head + place // columns * (tall + GAP)))
    sheet.paste(legend, (0, sheet.height - legend.height))
    return sheet


def choose(pairs: Sequence[Pair], names: Sequence[str], most: int = MOST) -> list[Pair]:
    """Up to `most` pairs, such that every label is shown about equally often: the first ones of the label that is rarest so far."""
    waiting = {name: [pair for pair in reversed(pairs) if name in pair.labels] for name in names}
    shown: Counter[str] = Counter()
    chosen: dict[int, Pair] = {}
    while len(chosen) < most and (open_names := [name for name in names if waiting[name]]):
        pair = waiting[min(open_names, key=lambda name: shown[name])].pop()
        if pair.number not in chosen:
            chosen[pair.number] = pair
            shown.update(pair.labels)
    return sorted(chosen.values(), key=lambda pair: pair.number)


def _draw_pair(store: PairStore, pair: Pair) -> Image.Image:
    """Picture and mask side by side, the prompt below."""
    pixels, mask = store.read_image(pair), store.read_mask(pair)
    scale = SIDE / max(mask.shape)
    height, width = (max(1, round(side * scale)) for side in mask.shape)
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    lines, spacing = _wrap(f"{pair.number}  {_legible(pair.prompt)}", 2 * SIDE), round(1.3 * LETTERS)
    cell = Image.new("RGB", (2 * SIDE, height + len(lines) * spacing + LETTERS // 2), PAPER)
    cell.paste(picture, (0, 0))
    cell.paste(_overlay(picture, mask), (width, 0))
    for place, line in enumerate(lines):
        ImageDraw.Draw(cell).text((0, height + 4 + place * spacing), line, fill=INK, font=font(LETTERS))
    return cell


def _overlay(picture: Image.Image, mask: npt.NDArray[np.uint8]) -> Image.Image:
    """The picture (w x h) under the colours of its mask (H, W)."""
    table = np.array([(*colour(number), round(255 * TINT)) for number in range(COLOURS + 1)], dtype=np.uint8)
    table[0], table[IGNORE] = (0, 0, 0, round(255 * SHADE)), (*UNSURE, round(255 * TINT))
    large = Image.fromarray(mask).resize((picture.width * FINE, picture.height * FINE), Image.Resampling.NEAREST)
    layer = Image.fromarray(table[np.asarray(large)]).reduce(FINE)
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def _entries(store: PairStore, chosen: Sequence[Pair]) -> list[Entry]:
    """The labels with their share of all pixels on the sheet."""
    counts = np.zeros(IGNORE + 1, dtype=np.float64)
    for pair in chosen:
        mask = store.read_mask(pair)
        counts += np.bincount(mask.ravel(), minlength=IGNORE + 1) / mask.size / len(chosen)
    entries = enumerate(store.names, start=1)
    return [Entry(readable(name, number), counts[number], colour(number) if counts[number] else None) for number, name in entries]


def _legible(text: str) -> str:
    """The text as the built-in font can write it: without accents if need be, with a question mark for other letters that it lacks."""
    unknown = readable("\uffff", 0)
    letters = (readable(letter, 0) for letter in text)
    return "".join("?" if letter == unknown else letter for letter in letters)


def _wrap(text: str, width: float) -> list[str]:
    """The text in at most `LINES` lines of so many pixels, the last one cut short if need be."""
    lines: list[str] = []
    words = text.split(" ")
    while words and len(lines) < LINES - 1:
        count = 1
        while count < len(words) and font(LETTERS).getlength(" ".join(words[: count + 1])) <= width:
            count += 1
        lines.append(shorten(" ".join(words[:count]), LETTERS, width))
        del words[:count]
    return lines + ([shorten(" ".join(words), LETTERS, width)] if words else [])
