"""The bundled scenes: exact, reproducible, and split so that nothing measured was trained on."""

import hashlib

import numpy as np
import pytest

from maskwright.datasets import scenes
from maskwright.datasets.captions import write_caption
from maskwright.datasets.grounds import GROUNDS
from maskwright.datasets.word_list import Word
from maskwright.errors import SettingsError


def digest(rendered):
    hashed = hashlib.sha256()
    for scene in rendered:
        hashed.update(scene.image.tobytes() + scene.labels.tobytes() + "|".join((*scene.words, scene.caption)).encode())
    return hashed.hexdigest()[:16]


@pytest.mark.parametrize(
    ("split", "pinned"), [("train", "8b6a8b4703e8a08b"), ("tuning", "4721c82040a854ac"), ("benchmark", "d759508d72eeced2")]
)
def test_the_scenes_that_the_bundled_model_was_trained_and_measured_on_never_change(split, pinned):
    assert digest(scenes.benchmark(60, split=split)) == pinned


def test_other_sizes_and_chosen_words_never_change():
    assert digest(scenes.render(seed, side=128, most=5) for seed in range(10)) == "45ad0562ae7ce740"
    assert digest(scenes.compose(["soccer ball", "dog"], "grass", seed=seed) for seed in range(5)) == "cb5e367156fb96d6"


def test_the_same_seed_gives_the_same_scene_and_splits_never_meet():
    one, again = scenes.render(5), scenes.render(5)
    assert np.array_equal(one.image, again.image)
    assert np.array_equal(one.labels, again.labels)
    assert one.caption == again.caption
    others = [scenes.render(5, split=split).image for split in ("tuning", "benchmark")]
    assert not any(np.array_equal(one.image, other) for other in others)


def test_the_words_of_a_scene_are_what_its_label_map_holds():
    names = [word.name for word in scenes.load_words().all]
    for scene in scenes.benchmark(30):
        assert {names[n] for n in np.unique(scene.labels)} == set(scene.words)
        assert scene.image.shape == (64, 64, 3) and scene.image.dtype == np.uint8
        assert scene.words[-1] in GROUNDS


def test_the_label_map_follows_the_painted_alpha():
    """Painting one opaque object twice, on two grounds, changes the picture exactly outside of its mask (but for soft edges and shadow)."""
    grass = scenes.compose(["soccer ball"], "grass", seed=3)
    assert set(np.unique(grass.labels)) == {47, 48}
    inside = grass.labels == 47
    assert 0.02 < inside.mean() < 0.5
    greenness = grass.image[..., 1].astype(int) - grass.image[..., 0]
    assert greenness[~inside].mean() > greenness[inside].mean() + 20


@pytest.mark.parametrize("side", [32, 64, 128])
def test_any_side(side):
    scene = scenes.render(1, side=side)
    assert scene.image.shape == (side, side, 3) and scene.labels.shape == (side, side)


def test_captions_name_all_or_one_thing():
    objects, ground = [Word("dog", ("puppy",)), Word("red apple")], Word("grass", ("lawn",))
    texts = [write_caption(objects, ground, np.random.default_rng(seed)) for seed in range(300)]
    known = ("dog", "puppy", "red apple", "grass", "lawn")
    counts = [sum(word in text for word in known) for text in texts]
    assert set(counts) == {1, 3}
    assert 0.08 < np.mean(np.array(counts) == 1) < 0.25
    assert any("an owl" in write_caption([Word("owl")], Word("sky"), np.random.default_rng(seed)) for seed in range(20))
    for word, wanted in ((Word("Tokyo Tower", proper=True), "Tokyo Tower"), (Word("Moai", proper=True, article="a"), "a Moai")):
        texts = {write_caption([word], ground, np.random.default_rng(seed)) for seed in range(60)}
        assert any(wanted in text for text in texts) and not any("a Tokyo" in text or "an Moai" in text for text in texts)


def test_an_unknown_word_is_refused_with_the_choices():
    with pytest.raises(SettingsError, match=r"no unicorn.*objects dog"):
        scenes.compose(["unicorn"], "grass")


def test_the_atlas_has_a_visible_glyph_for_every_object():
    artwork = scenes.open_scenes().artwork
    assert len(artwork) == len(scenes.load_words().objects) == 48
    assert all(np.asarray(glyph)[..., 3].mean() > 20 for (glyph,) in artwork)
