"""Drawn scenes: glyphs on procedural grounds, with a caption and an exact label map.

The recipe trains the bundled model on them (picture and caption only); the bundled benchmark measures on them
(the label map is exact by construction). What they show is a word list; a scene is a pure function of list, split and seed.
"""

import copy
import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.datasets.artwork import load_artwork
from maskwright.datasets.captions import write_caption
from maskwright.datasets.keyword_captions import list_keywords
from maskwright.datasets.painting import paint_scene
from maskwright.datasets.rich_captions import describe
from maskwright.datasets.word_list import BUNDLED, WordList, Words, find_word_list, read_word_list
from maskwright.errors import SettingsError

ATLAS = BUNDLED["scenes"].parent / "atlas.png"
# Part of every scene's seed: splits never meet. In benchmark-fine the objects of a scene are hard to tell apart.
SPLITS = {"train": 0, "tuning": 1, "benchmark": 2, "composed": 3, "benchmark-fine": 4}
CAPTIONS = 9  # sets the further captions of a scene apart from its painting


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered scene.

    Attributes:
        image: (side, side, 3) uint8 RGB.
        labels: (side, side) uint8, position in the set's `words.all` of what is visible at each pixel.
        words: names of what is in the scene, objects in painting order, then the ground.
        caption: the sentence that the recipe trains with.
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    words: tuple[str, ...]
    caption: str


@dataclass(frozen=True)
class Contents:
    """What a scene shows, before it is painted.

    Attributes:
        objects: positions in `words.objects` in painting order, one perhaps several times.
        ground: position in `words.grounds`.
        portrait: whether it is a portrait of its one object (`SceneStyle.for_portraits`).
    """

    objects: tuple[int, ...]
    ground: int
    portrait: bool = False


class SceneSet:
    """All scenes of a word list.

    Args:
        words: a bundled list ("scenes", "scenes-full") or a TOML file.

    Raises:
        SettingsError: a list that cannot be used, or an atlas that does not fit it.
    """

    def __init__(self, words: str | Path = "scenes") -> None:
        self.list: WordList = read_word_list(find_word_list(words))
        self.artwork = load_artwork(self.list.path)

    @property
    def words(self) -> Words:
        """Objects and grounds."""
        return self.list.words

    def contents(self, seed: int, *, split: str = "train") -> Contents:
        """What the scene with this seed shows, without painting it."""
        return self._draw(np.random.default_rng([SPLITS[split], seed]), self.list.most, split)

    def places(self, shown: Contents) -> tuple[int, ...]:
        """Positions in `words.all` of what a scene shows, each once, the ground last."""
        return (*dict.fromkeys(shown.objects), len(self.words.objects) + shown.ground)

    def render(self, seed: int, *, split: str = "train", side: int | None = None, most: int | None = None) -> Scene:
        """Renders the scene with this seed.

        Args:
            seed: any non-negative integer; the same seed gives the same scene.
            split: "train", "tuning", "benchmark" or "benchmark-fine"; the same seed gives other scenes in other splits.
            side: pixels a side; None: as the list says.
            most: at most so many objects, at least one; None: as the list says.
        """
        rng = np.random.default_rng([SPLITS[split], seed])
        return self._finish(self._draw(rng, most or self.list.most, split), side or self.list.side, rng, split)

    def scenes(self, limit: int, *, split: str = "benchmark", side: int | None = None, most: int | None = None) -> Iterator[Scene]:
        """The first `limit` scenes of a split, in the fixed order; side and most as those of `render`."""
        return (self.render(seed, split=split, side=side, most=most) for seed in range(limit))

    def compose(self, objects: Sequence[str], ground: str, *, seed: int = 0, side: int | None = None) -> Scene:
        """Renders a scene of chosen words; place, size, light and ground follow the seed.

        Args:
            objects: names of objects, in painting order.
            ground: name of a ground.
            seed: any non-negative integer.
            side: pixels a side; None: as the list says.

        Raises:
            SettingsError: for a word that the scenes do not have.
        """
        names, places = [word.name for word in self.words.objects], [word.name for word in self.words.grounds]
        if strange := [name for name in objects if name not in names] + [name for name in [ground] if name not in places]:
            raise SettingsError(f"the scenes have no {', '.join(strange)}: objects {', '.join(names)}; grounds {', '.join(places)}")
        rng = np.random.default_rng([SPLITS["composed"], seed])
        shown = Contents(tuple(names.index(name) for name in objects), places.index(ground))
        return self._finish(shown, side or self.list.side, rng, "composed")

    def close_up(self, side: int) -> "SceneSet":
        """The same words on pictures of another side: objects keep their size in pixels, and are as many to the area.

        A network that reads pictures of any side learns the words on small ones at less cost.

        Args:
            side: pixels a side.
        """
        share, style = side / self.list.side, self.list.style
        most = min(self.list.most, max(2, round(self.list.most * share**2)))
        scale = (min(style.scale[0] / share, 1.0), min(style.scale[1] / share, 1.0))
        closer = copy.copy(self)
        closer.list = dataclasses.replace(self.list, side=side, most=most, style=dataclasses.replace(style, scale=scale))
        return closer

    def portraits(self, side: int) -> "SceneSet":
        """The same words in training scenes of another side that are all portraits, and whose captions name nothing that is not there.

        Args:
            side: pixels a side.
        """
        alone = copy.copy(self)
        alone.list = dataclasses.replace(self.list, side=side, style=dataclasses.replace(self.list.style, portrait=1.0, absent=0.0))
        return alone

    def captions(self, seed: int, *, split: str = "train", count: int = 4) -> tuple[str, ...]:
        """Further captions of the scene with this seed, written without painting it."""
        return tuple(self.caption(seed, number, split=split) for number in range(count))

    def caption(self, seed: int, number: int, *, split: str = "train") -> str:
        """The further caption of that number of the scene with this seed, as `captions` gives it."""
        rng = np.random.default_rng([SPLITS[split], seed, CAPTIONS, number])
        return self._caption(self.contents(seed, split=split), rng, split)

    def rivals(self, names: Sequence[str]) -> tuple[int, ...]:
        """Positions in `words.all` of these words and of those that are hard to tell from them.

        Raises:
            SettingsError: the list says of no words that they are.
        """
        if not (rivals := self.words.rivals):
            raise SettingsError(f"{self.list.path} has neither families nor proper nouns: choose scenes-full, or another choice of labels")
        places = {word.name: place for place, word in enumerate(self.words.all)}
        return tuple(sorted({kin for name in names for kin in rivals[places[name]]}))

    def _draw(self, rng: np.random.Generator, most: int, split: str) -> Contents:
        """Objects and ground of a scene; those of "benchmark-fine" are one family, or proper nouns, at least two kinds."""
        style, words, related = self.list.style, self.words, split == "benchmark-fine"
        portrait = split == "train" and style.portrait > 0 and rng.random() < style.portrait
        most = 1 if portrait else most
        count, kinds, pool = int(rng.integers(1, most + 1)), 1, np.arange(len(words.objects))
        if related or (style.family and rng.random() < style.family):
            pool, kinds = _choose_family(words, rng), min(2, most)
        objects = [int(n) for n in rng.choice(pool, min(max(count, kinds), len(pool)), replace=False)]
        total = min(max(len(objects), 2), most)
        if style.repeat and total > 1 and rng.random() < style.repeat:
            copies = int(rng.integers(2, min(total, 4) + 1))
            objects = [objects[0]] * min(copies, most - kinds + 1) + objects[1 : max(kinds, total - copies + 1)]
            rng.shuffle(objects)
        return Contents(tuple(objects), int(rng.integers(len(words.grounds))), portrait)

    def _finish(self, shown: Contents, side: int, rng: np.random.Generator, split: str) -> Scene:
        """Paints the scene and writes its caption."""
        layers = [(_one(self.artwork[number], rng), self.words.objects[number].mirrored) for number in shown.objects]
        style = self.list.style.for_portraits() if shown.portrait else self.list.style
        image, owners = paint_scene(layers, self.words.grounds[shown.ground], side=side, style=style, rng=rng)
        labels = np.array([len(self.words.objects) + shown.ground, *shown.objects], dtype=np.uint8)[owners]
        names = dict.fromkeys(self.words.objects[number].name for number in shown.objects)
        return Scene(image, labels, (*names, self.words.grounds[shown.ground].name), self._caption(shown, rng, split))

    def _caption(self, shown: Contents, rng: np.random.Generator, split: str) -> str:
        """A caption in the list's style; only training scenes have some that name what is not there."""
        if split == "train" and self.list.style.absent and rng.random() < self.list.style.absent:
            return list_keywords(self.places(shown), self.words, rng)
        things, place = Counter(self.words.objects[number] for number in shown.objects), self.words.grounds[shown.ground]
        if self.list.style.captions == "rich":
            return describe(list(things.items()), place, rng)
        return write_caption(list(things), place, rng)


def _one(choices: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    """One of them; a single one costs no random number."""
    return choices[0] if len(choices) == 1 else choices[int(rng.integers(len(choices)))]


def _choose_family(words: Words, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Positions of a family, or of the proper nouns, large ones more often; of all objects where no two are related."""
    families = [kin for kin in words.families if len(kin) > 1]
    if len(words.proper) > 1:
        families += [words.proper] * len(words.proper)
    return np.array(families[int(rng.integers(len(families)))] if families else range(len(words.objects)), dtype=np.intp)


@functools.cache
def open_scenes(words: str | Path = "scenes") -> SceneSet:
    """A scene set; its list and atlas are read once."""
    return SceneSet(words)


def load_words() -> Words:
    """The words of the bundled scenes."""
    return read_word_list(BUNDLED["scenes"]).words


def render(seed: int, *, split: str = "train", side: int = 64, most: int = 3) -> Scene:
    """Renders a bundled scene: see SceneSet.render."""
    return open_scenes().render(seed, split=split, side=side, most=most)


def compose(objects: Sequence[str], ground: str, *, seed: int = 0, side: int = 64) -> Scene:
    """Renders a bundled scene of chosen words: see SceneSet.compose."""
    return open_scenes().compose(objects, ground, seed=seed, side=side)


def benchmark(limit: int = 200, *, split: str = "benchmark", side: int = 64) -> Iterator[Scene]:
    """The first `limit` scenes of a split, in the fixed order; 200 of "benchmark" are the bundled benchmark."""
    return open_scenes().scenes(limit, split=split, side=side)
