"""The CLIP of the recipe, the pool of painted scenes, the alignment of a training with that CLIP; a few steps of the real networks."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
CPU = torch.device("cpu")
LIST = """
side = 32
most = 2
[objects]
"red ball" = { picture = "ball.png" }
box = { picture = "box.png", synonyms = ["crate"] }
[grounds]
grass = {}
table = { draw = "tiles" }
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A set of two objects and two grounds at 32 pixels."""
    from maskwright_recipes.steps import open_set

    folder = tmp_path_factory.mktemp("words")
    for name, colour in (("ball", (220, 40, 30, 255)), ("box", (40, 60, 200, 255))):
        picture = Image.new("RGBA", (40, 40))
        ImageDraw.Draw(picture).ellipse((2, 2, 38, 38), fill=colour)
        picture.save(folder / f"{name}.png")
    (folder / "toys.toml").write_text(LIST)
    return open_set(folder / "toys.toml", folder)


@pytest.fixture(scope="module")
def size():
    """Of the smallest networks."""
    from maskwright_recipes.networks import Size

    return Size("tiny", (32, 32), text_width=16, text_layers=1, text_length=16, autoencoder=8, rate=1e-3, average=0.9, batch=2)


def train_clip(out, scenes, size, *, samples, init=None, minutes=None):
    from maskwright_recipes.clip import ClipCourse
    from maskwright_recipes.steps import Plan, run_clip

    return run_clip(Plan(scenes, size, out, CPU), ClipCourse(samples, batch=4, minutes=minutes), init=init)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory, scenes, size):
    """A CLIP after three steps."""
    return train_clip(tmp_path_factory.mktemp("run"), scenes, size, samples=12)


class TestClip:
    def test_the_filter_reads_what_was_trained(self, clip_folder, scenes):
        from maskwright.text.clip import Clip
        from maskwright_recipes.clip import embed_pictures, embed_texts, load_clip

        clip = Clip.from_pretrained(clip_folder, offline=True)
        picture, texts = scenes.render(0, split="tuning").image, ["A photo of a box", "A photo of a red ball"]
        found = clip.similarities(picture, texts)
        model = load_clip(clip_folder)
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            wanted = embed_pictures(model, pixels) @ embed_texts(model, clip.checkpoint.tokenizer, texts).T
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, wanted[0].numpy(), atol=0.02)  # bfloat16 there, float32 here

    def test_long_pictures_are_seen_whole(self, clip_folder):
        from maskwright.text.clip import Clip

        clip = Clip.from_pretrained(clip_folder, offline=True)
        grey = np.full((32, 160, 3), 120, np.uint8)
        marked = grey.copy()
        marked[:, :12] = (220, 40, 30)
        assert np.abs(clip.similarities(grey, ["box"]) - clip.similarities(marked, ["box"])).max() > 1e-5

    def test_it_goes_on_where_it_was_stopped(self, tmp_path, scenes, size):
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        from maskwright_recipes.clip import load_clip

        one = load_clip(train_clip(whole, scenes, size, samples=16)).state_dict()
        train_clip(parts, scenes, size, samples=16, minutes=0)  # one step
        assert torch.load(parts / "clip.pt", weights_only=True)["samples"] == 4
        two = load_clip(train_clip(parts, scenes, size, samples=16)).state_dict()
        assert all(torch.allclose(one[name].float(), two[name].float(), atol=1e-3) for name in one)

    def test_words_shown_are_those_of_the_scenes(self, scenes):
        from maskwright_recipes.clip import words_shown

        names = [word.name for word in scenes.words.all]
        shown = words_shown(scenes, range(8), "tuning")
        for seed in range(8):
            assert {names[place] for place in shown[seed].nonzero().flatten()} == set(scenes.render(seed, split="tuning").words)

    def test_texts_begin_apart(self, tmp_path, scenes, size):
        from maskwright_recipes.clip import build_clip, embed_texts, part_texts
        from maskwright_recipes.tokenizer import tokenizer_of

        torch.manual_seed(0)
        tokenizer = tokenizer_of(tmp_path, scenes.list.path, length=16)
        model, texts = build_clip(size, tokenizer), [f"A photo of a {word.name}" for word in scenes.words.all]

        def alike():
            with torch.no_grad():
                vectors = embed_texts(model, tokenizer, texts)
            return float((vectors @ vectors.T - torch.eye(len(texts))).abs().max())

        before = alike()
        part_texts(model, tokenizer, texts)
        assert alike() < 0.3 < before

    def test_told_apart_counts_as_the_filter_keeps(self):
        from maskwright_recipes.clip import told_apart

        similarities = torch.tensor([[1.0, 0.6, 0.2], [0.1, 0.5, -0.2]])
        shown = torch.tensor([[True, True, False], [True, True, False]])
        f1, precision, recall = told_apart(similarities, shown, 0.5)
        assert (precision, recall) == (1.0, 0.75) and f1 == pytest.approx(6 / 7)


class TestPool:
    def test_scenes_are_those_of_the_renderer_in_a_new_order_each_time_round(self, tmp_path, scenes):
        from maskwright_recipes.pool import open_pool

        pool = open_pool(scenes, tmp_path, 6, start=40)
        assert all((pool.pixels[place] == scenes.render(40 + place).image).all() for place in range(6))
        first, second = pool.seeds(0, 6), pool.seeds(6, 6)
        assert sorted(first) == sorted(second) == list(range(40, 46)) and (first != second).any()
        assert (pool.seeds(4, 4) == np.concatenate([first[4:], second[:2]])).all()
        pixels, captions = next(pool.batches(0, 3))
        assert pixels.shape == (3, 3, 32, 32) and len(captions) == 3
        assert torch.equal(((pixels[0] + 1) * 127.5).round().byte(), torch.from_numpy(scenes.render(int(first[0])).image).permute(2, 0, 1))

    def test_what_is_missing_is_painted(self, tmp_path, scenes):
        from maskwright_recipes.pool import open_pool

        wanted = open_pool(scenes, tmp_path, 5).pixels.copy()
        state = json.loads((tmp_path / "pool.json").read_text())
        damaged = np.load(tmp_path / "pixels.npy", mmap_mode="r+")
        damaged[3:] = 0
        damaged.flush()
        (tmp_path / "pool.json").write_text(json.dumps({**state, "painted": 3}))
        assert (open_pool(scenes, tmp_path, 5).pixels == wanted).all()

    def test_a_pool_of_other_scenes_is_refused(self, tmp_path, scenes):
        from maskwright.errors import SettingsError
        from maskwright_recipes.pool import open_pool

        open_pool(scenes, tmp_path, 3)
        for other, count in ((scenes, 4), (scenes.close_up(16), 3)):
            with pytest.raises(SettingsError, match="was painted with another"):
                open_pool(other, tmp_path, count)


class TestAlignment:
    @pytest.fixture
    def make_trainer(self, tmp_path, scenes, size, clip_folder):
        import shutil

        from maskwright_recipes.networks import build_autoencoder
        from maskwright_recipes.text_to_image import Course, Trainer

        torch.manual_seed(1)
        build_autoencoder(size).save_pretrained(tmp_path / "vae")
        shutil.copytree(clip_folder, tmp_path / "clip")
        return lambda align=0.5, samples=8: Trainer(tmp_path, scenes, size, Course(samples, 2, 1e-3, 0.9, align=align), device=CPU)

    def test_observing_changes_no_prediction(self, make_trainer):
        trainer = make_trainer()
        torch.manual_seed(0)
        tokens = trainer.tokenizer(["a box", ""], padding="max_length", return_tensors="pt").input_ids
        given = torch.randn(2, 8, 8, 8), torch.tensor([3, 700]), tokens
        with torch.no_grad():
            predicted, down, up = trainer.model.observe(*given)
            assert torch.equal(predicted, trainer.model(*given))
        assert down.shape == (2, 32, 4, 4) and up.shape == (2, 32, 8, 8)

    def test_the_loss_is_none_where_features_agree(self, make_trainer):
        alignment = make_trainer().alignment
        pictures = torch.rand(2, 3, 32, 32) * 2 - 1
        wanted = (alignment.features(pictures) - alignment.mean) / alignment.deviation
        assert float(alignment.loss((wanted, 3 * wanted), pictures)) == pytest.approx(0, abs=1e-5)
        assert float(alignment.loss((wanted, -wanted), pictures)) == pytest.approx(1, abs=1e-5)

    def test_it_moves_the_early_layers_and_is_not_exported(self, make_trainer, tmp_path):
        from maskwright_recipes.streams import painted_batches

        trainer = make_trainer()
        before = trainer.alignment.down[0].weight.clone()
        trainer.run(painted_batches(trainer.scenes, 0, 2))
        assert not torch.equal(before, trainer.alignment.down[0].weight)
        assert (tmp_path / "model" / "clip" / "config.json").is_file()
        assert not [name for name in trainer.average.state_dict() if "alignment" in name]
        again = make_trainer(samples=12)
        assert again.first == 4 and torch.equal(again.alignment.down[0].weight, trainer.alignment.down[0].weight)
        without = make_trainer(align=0.0, samples=12)  # and goes on without, too
        assert without.first == 4 and without.alignment is None

    def test_without_a_clip_it_is_refused(self, tmp_path, scenes, size):
        from maskwright.errors import SettingsError
        from maskwright_recipes.networks import build_autoencoder
        from maskwright_recipes.steps import Plan, run_training
        from maskwright_recipes.text_to_image import Course

        build_autoencoder(size).save_pretrained(tmp_path / "vae")
        with pytest.raises(SettingsError, match="no CLIP"):
            run_training(Plan(scenes, size, tmp_path, CPU), Course(4, 2, 1e-3, 0.9, align=1.0))
