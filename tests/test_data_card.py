"""The data card adds up and reads as it is meant; the contact sheet shows the pairs."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import DatasetCard
from PIL import Image

from maskwright.discovery.card import draw_up, write_card
from maskwright.discovery.pairs import Drawn, Pair
from maskwright.discovery.preview import choose, draw_preview, write_preview
from maskwright.discovery.store import PairStore
from maskwright.exports.palette import colour
from maskwright.vocabulary import Vocabulary

NAMES = ("dog", "ca*t_s", "a: b", "🐶 [x](y)")
WORDS = Vocabulary.parse([NAMES[0], "ca*t_s|kit`ten", *NAMES[2:]])
SETTINGS = {"model": "some|model", "revision": "abc", "method": "attentioncut", "seed": 3, "filters": {"least": 0.03}, "words": ["w"] * 99}
REASONS = ("too small", "in pieces")


def draw(number: int, attempt: int) -> Drawn:
    """One or two labels; half of the first attempts are rejected for one or two reasons."""
    names = NAMES[number % 3 : number % 3 + 1 + number % 2]
    kept = attempt > 0 or number % 2 == 0
    reasons = () if kept else (f"{names[0]}: {REASONS[0]}", f"{names[-1]}: {REASONS[number % 4 // 2]}", "too dark")[: 2 + number % 5 // 4]
    mask = np.zeros((20, 30 - number % 3), dtype=np.uint8)
    mask[2:12, 4:20] = NAMES.index(names[0]) + 1
    mask[12:14] = 255
    image = np.full((*mask.shape, 3), 40 * (1 + number % 5), dtype=np.uint8)
    prompt = f"a picture of {names[0]} " * 9
    return Drawn(Pair(number, attempt, prompt, names, number, {}, kept, tuple(dict.fromkeys(reasons))), image, mask)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PairStore:
    store = PairStore.open(tmp_path_factory.mktemp("set"), SETTINGS, WORDS, resume=False)
    for number in range(12):
        store.add([draw(number, attempt) for attempt in range(1 + number % 2)])
    return store


def rows(text: str, title: str) -> list[list[str]]:
    """The cells of the table under a heading, markup undone."""
    section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_numbers_of_the_card_add_up(store: PairStore) -> None:
    text = draw_up(store)
    total, kept, rejected = map(int, re.search(r"Attempts: (\d+)\. Kept: (\d+)\. Rejected: (\d+)\.", text).groups())
    assert (total, kept, rejected) == (18, 12, 6) and total == kept + rejected
    labels = rows(text, "Labels")
    assert [row[:3] for row in labels] == [["1", "dog", ""], ["2", "ca*t_s", "kit`ten"], ["3", "a: b", ""], ["4", "🐶 [x](y)", ""]]
    for result, column in ((True, 3), (False, 4)):
        expected = Counter(name for pair in store.pairs if pair.kept is result for name in pair.labels)
        assert [int(row[column]) for row in labels] == [expected[name] for name in NAMES]
    reasons = {row[0]: (int(row[1]), row[2]) for row in rows(text, "Rejected")}
    told = [pair for pair in store.pairs if not pair.kept]
    assert set(reasons) == {*REASONS, "too dark"}
    for phrase, (attempts, by_label) in reasons.items():
        assert attempts == sum(any(reason.endswith(phrase) for reason in pair.reasons) for pair in told)
        expected = Counter(reason.removesuffix(f": {phrase}") for pair in told for reason in pair.reasons if reason.endswith(f": {phrase}"))
        assert by_label == ", ".join(f"{name} {count}" for name, count in sorted(expected.items(), key=lambda item: (-item[1], item[0])))
    assert reasons["too dark"][1] == ""


def test_the_hub_reads_the_front_matter(store: PairStore) -> None:
    write_card(store, formats=("coco", "yolo"), licence="CreativeML OpenRAIL-M")
    card = DatasetCard.load(store.folder / "README.md")
    data = card.data.to_dict()
    assert data["pretty_name"] == "Synthetic masks: " + ", ".join(NAMES)
    assert data["task_categories"] == ["image-segmentation"] and data["size_categories"] == ["n<1K"]
    assert data["configs"] == [{"config_name": "default", "data_files": "pairs.jsonl"}]
    assert "CreativeML OpenRAIL-M" in card.text and "annotations.json" in card.text and "data.yaml" in card.text
    assert "VOCdevkit" not in card.text


def test_the_card_says_how_it_was_made_and_what_it_is_not(store: PairStore) -> None:
    text = draw_up(store, command='maskwright synthesize --labels "a ```b"', again="maskwright synthesize --only 7")
    assert "nobody has checked them" in text
    settings = dict(rows(text, "How it was made"))
    assert settings["`model`"] == "`some|model`" and settings["`filters.least`"] == "`0.03`" and settings["`seed`"] == "`3`"
    assert settings["`words`"].endswith("...`") and len(settings["`words`"]) < 210
    assert '````\nmaskwright synthesize --labels "a ```b"\n````' in text
    assert "maskwright synthesize --only 7" in text.partition("## Make one pair again")[2]
    assert "not known" in text.partition("## Licence")[2]
    assert str(store.folder) not in text


def test_the_preview_shows_each_picture_beside_its_mask(store: PairStore) -> None:
    write_preview(store)
    with Image.open(store.folder / "preview.png") as preview:
        sheet = np.asarray(preview.convert("RGB")).astype(int)
    assert 1400 < sheet.shape[1] < 2000 and 400 < sheet.shape[0] < 1000  # three rows of four
    for number in (1, 2, 3):
        tint = 0.55 * np.array(colour(number)) + 0.45 * 40 * (1 + np.arange(5)[:, None])
        assert (np.abs(sheet[::8, ::8, None] - tint).max(-1) < 4).any(), f"label {number} is painted"
    assert (sheet == 255).all(-1).mean() < 0.6
    assert np.array_equal(np.asarray(draw_preview(store)), sheet), "nothing but the pairs decides it"


def test_the_preview_is_balanced_over_labels() -> None:
    pairs = [Pair(number, 0, "", ("often",) if number % 10 else ("rare",), number) for number in range(400)]
    pairs += [Pair(400, 0, "", ("rare", "once"), 0)]
    chosen = choose(pairs, ("often", "rare", "once", "never"))
    shown = Counter(name for pair in chosen for name in pair.labels)
    assert len(chosen) == 36 and shown["once"] == 1
    assert abs(shown["often"] - shown["rare"]) <= 1
    assert [pair.number for pair in chosen] == sorted({pair.number for pair in chosen})
    assert len(choose(pairs[:5], ("often", "rare"))) == 5


def test_a_narrow_and_a_tall_picture_keep_their_shape(tmp_path: Path) -> None:
    with PairStore.open(tmp_path, SETTINGS, WORDS, resume=False) as store:
        for number, size in enumerate([(100, 5), (5, 100)]):
            store.add([Drawn(Pair(number, 0, "", NAMES[:1], 0), np.zeros((*size, 3), np.uint8), np.ones(size, np.uint8))])
        sheet = np.asarray(draw_preview(store))
    painted = (np.abs(sheet.astype(int) - 0.55 * np.array(colour(1))).max(-1) < 4).sum()
    assert painted == pytest.approx(2 * 192 * 10, rel=0.1)
