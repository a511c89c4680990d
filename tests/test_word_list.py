"""A user's own word list: picture files and glyphs become scenes; what cannot be used is refused in one line."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from maskwright.datasets.painting import paint_scene
from maskwright.datasets.scene_style import SceneStyle
from maskwright.datasets.scenes import SceneSet, open_scenes
from maskwright.datasets.word_list import find_word_list, plural_of, read_word_list
from maskwright.errors import SettingsError
from maskwright_recipes import NOTO
from maskwright_recipes.atlas import draw_atlas

LIST = """
side = 32
most = 2
[style]
captions = "rich"
noise = 0.02
[objects]
"my mug" = { picture = "mug.png" }
"green mug" = { picture = "mug.png", tint = "#20b040" }
plate = { picture = ["plate.png", "mug.png"], synonyms = ["dish"] }
[grounds]
table = { draw = "tiles", colours = ["#ffffff", "#224488"] }
"""


def write_list(folder):
    for name, colour in (("mug", (220, 40, 30, 255)), ("plate", (40, 60, 200, 255))):
        picture = Image.new("RGBA", (60, 40))
        ImageDraw.Draw(picture).ellipse((5, 5, 50, 35), fill=colour)
        picture.save(folder / f"{name}.png")
    path = folder / "kitchen.toml"
    path.write_text(LIST)
    return path


def test_picture_files_become_scenes(tmp_path):
    path = write_list(tmp_path)
    assert draw_atlas(path, font=tmp_path / "no font is needed") == tmp_path / "kitchen.png"
    scenes = SceneSet(path)
    scene = scenes.compose(["green mug"], "table", seed=2)
    assert scene.image.shape == (32, 32, 3) and set(np.unique(scene.labels)) == {1, 3}
    inside = scene.image[scene.labels == 1].mean(0)
    assert inside[1] > inside[0] + 40


def test_a_word_with_several_pictures_shows_each(tmp_path):
    path = write_list(tmp_path)
    draw_atlas(path)
    scenes = SceneSet(path)
    red = [scene.image[scene.labels == 2][:, 0].mean() for scene in (scenes.compose(["plate"], "table", seed=s) for s in range(12))]
    assert min(red) < 100 < max(red)


@pytest.mark.skipif(not NOTO.is_file(), reason="needs fonts-noto-color-emoji")
def test_sequences_and_flags_are_drawn_as_one_glyph(tmp_path):
    path = tmp_path / "words.toml"
    path.write_text('[objects]\ncat = { glyph = "🐈‍⬛" }\nflag = { glyph = "🇯🇵" }\n[grounds]\ngrass = {}')
    draw_atlas(path)
    bundled = dict(zip((word.name for word in open_scenes("scenes-full").words.objects), open_scenes("scenes-full").artwork, strict=True))
    for drawn, name in zip(SceneSet(path).artwork, ("black cat", "flag of Japan"), strict=True):
        one, other = (np.asarray(cell.convert("RGBa"), dtype=int) for cell in (drawn[0], bundled[name][0]))
        assert np.abs(one - other).mean() < 25  # another version of the font may draw it a little differently
    two = tmp_path / "two.toml"
    two.write_text('[objects]\npair = { glyph = "🐈🐕" }\n[grounds]\ngrass = {}')
    with pytest.raises(SettingsError, match="draws several pictures"):
        draw_atlas(two)


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("[objects]\ndog = {}\n[grounds]\ngrass = {}", r"'dog' needs artwork: add glyph"),
        ("[objects]\ndog = { glyph = 'x', color = 'red' }\n[grounds]\ngrass = {}", r"'dog': color means nothing here: choose from article"),
        ("[objects]\ndog = { glyph = 'x' }", r"has no \[grounds\]: add"),
        ("[objects]\ndog = { glyph = 'x' }\n[grounds]\nlawn = {}", r"'lawn': no ground 'lawn' can be drawn: choose draw from grass, "),
        ("[objects]\ndog = { glyph = 'x' }\n[grounds]\ngrass = { colours = 3 }", r"colours means nothing here"),
        ("[objects]\ndog = { glyph = 'x' }\n[grounds]\ntiles = { colours = ['red'] }", r"colours cannot be \['red'\]"),
        ("[objects]\ndog = { glyph = 'x' }\ncat = { glyph = 'y', synonyms = ['Dog'] }\n[grounds]\ngrass = {}", r"'Dog' stands for"),
        ("[objects]\ndog = { glyph = 'x', tint = 'red' }\n[grounds]\ngrass = {}", r"tint must be a colour such as"),
        ("[objects]\ndog = { glyph = 'x', proper = 'yes' }\n[grounds]\ngrass = {}", r"'dog': proper must be true or false, not 'yes'"),
        ("side = 50\n[objects]\ndog = { glyph = 'x' }\n[grounds]\ngrass = {}", r"side must be a multiple of 16, not 50"),
        ("[style]\nscale = 3\n[objects]\ndog = { glyph = 'x' }\n[grounds]\ngrass = {}", r"\[style\] scale cannot be 3"),
        ("[style]\nscale = [25, 70]\n[objects]\ndog = { glyph = 'x' }\n[grounds]\ngrass = {}", r"scale \[25, 70\] is no share of the side"),
        ("[style]\nscale = [0.01, 0.7]\n[objects]\ndog = { glyph = 'x' }\n[grounds]\ngrass = {}", r"scale \[0.01, 0.7\] is no share"),
        ("[style]\nplace = [10, 90]\n[objects]\ndog = { glyph = 'x' }\n[grounds]\ngrass = {}", r"place \[10, 90\] is no share of the side"),
        ("[style]\nvisible = 5\n[objects]\ndog = { glyph = 'x' }\n[grounds]\ngrass = {}", r"visible must be a share of an object"),
        ("[objects", r"cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, text, refusal):
    path = tmp_path / "words.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=refusal):
        read_word_list(path)


def test_objects_that_find_no_room_are_told_instead_of_painted_for_ever():
    words, style = read_word_list(find_word_list("scenes")).words, SceneStyle(scale=(0.9, 1.0), visible=1.0)
    layers = [(Image.new("RGBA", (32, 32), (255, 0, 0, 255)), True)] * 12
    with pytest.raises(SettingsError, match=r"12 objects of this size find no room .*lower scale or visible"):
        paint_scene(layers, words.grounds[1], side=16, style=style, rng=np.random.default_rng(0))


def test_a_missing_and_an_outdated_atlas_say_how_to_draw_it(tmp_path):
    path = write_list(tmp_path)
    with pytest.raises(SettingsError, match=r"cannot be read: draw it with: maskwright-recipe atlas --words .*kitchen.toml"):
        SceneSet(path)
    draw_atlas(path)
    read_word_list.cache_clear()
    path.write_text(path.read_text().replace('"mug.png" }', '"plate.png" }'))
    with pytest.raises(SettingsError, match="was drawn for other words"):
        SceneSet(path)
    with pytest.raises(SettingsError, match="no word list 'nothing': give a TOML file, or one of scenes, scenes-full"):
        SceneSet("nothing")


def test_plurals_follow_the_spelling():
    assert [plural_of(name) for name in ("dog", "fox", "butterfly", "monkey")] == ["dogs", "foxes", "butterflies", "monkeys"]
