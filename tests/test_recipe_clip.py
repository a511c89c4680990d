"""The CLIP of the recipe, the pool of painted scenes, the alignment of a training with that CLIP; a few steps of the real networks."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.tiny_words import TINY, feed, open_toys, save_autoencoder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A set of two objects and two grounds at 32 pixels."""
    return open_toys(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def size():
    """Of the smallest networks."""
    from maskwright_recipes.networks import Size

    return Size(**TINY)


def train_clip(out, scenes, size, *, samples, init=None, minutes=None):
    from maskwright_recipes.clip_training import ClipCourse
    from maskwright_recipes.steps import Plan, run_clip

    return run_clip(Plan(scenes, size, out, CPU), ClipCourse(samples, batch=4, rate=0.1, minutes=minutes), init=init)


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

    def test_it_goes_on_where_it_was_stopped(self, tmp_path, scenes, size, capsys):
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        train_clip(whole, scenes, size, samples=16)
        train_clip(parts, scenes, size, samples=16, minutes=0)  # one step
        assert torch.load(parts / "clip.pt", weights_only=True)["samples"] == 4
        capsys.readouterr()
        train_clip(parts, scenes, size, samples=16)
        assert "step 4/4" in capsys.readouterr().out
        one, two = (torch.load(folder / "clip.pt", weights_only=True) for folder in (whole, parts))
        for part in ("model", "average", "head"):
            assert all(torch.allclose(one[part][name], two[part][name], atol=1e-5) for name in one[part]), part
        assert torch.equal(one["scale"], two["scale"]) and torch.equal(one["bias"], two["bias"])
        moments = [state["optimiser"]["state"] for state in (one, two)]
        assert all(torch.allclose(moments[0][place]["exp_avg"], moments[1][place]["exp_avg"], atol=1e-5) for place in moments[0])

    def test_what_it_was_not_begun_with_is_refused(self, clip_folder, scenes, size):
        from maskwright.errors import SettingsError

        with pytest.raises(SettingsError, match="another size"):
            train_clip(clip_folder.parent, scenes, dataclasses.replace(size, text_width=32), samples=16)
        fewer = copy.copy(scenes)
        fewer.list = dataclasses.replace(scenes.list, words=dataclasses.replace(scenes.words, grounds=scenes.words.grounds[:1]))
        with pytest.raises(SettingsError, match="other words"):
            train_clip(clip_folder.parent, fewer, size, samples=16)

    def test_it_starts_from_a_clip_of_the_same_words_and_size(self, clip_folder, scenes, size, tmp_path):
        from maskwright_recipes.clip import build_clip, load_clip, start_clip
        from maskwright_recipes.export import export_pipeline
        from maskwright_recipes.networks import Model, build_autoencoder
        from maskwright_recipes.tokenizer import tokenizer_of

        tokenizer = tokenizer_of(clip_folder.parent, scenes.list.path, length=16)
        export_pipeline(Model(size, tokenizer, 32), tokenizer, build_autoencoder(size), tmp_path / "model", clip=clip_folder)
        same, wider = build_clip(size, tokenizer), build_clip(dataclasses.replace(size, text_width=32), tokenizer)
        assert start_clip(same, tokenizer, tmp_path / "model") and not start_clip(wider, tokenizer, tmp_path / "model")
        kept = load_clip(clip_folder).state_dict()
        assert all(torch.equal(tensor, kept[name]) for name, tensor in same.state_dict().items())

    def test_its_ratio_and_revision_lie_beside_it(self, clip_folder):
        from maskwright.text.clip import Clip
        from maskwright.text.filtering import CategoryFilter

        told = json.loads((clip_folder / "maskwright.json").read_text())
        chosen = CategoryFilter.from_pretrained("clip", clip=clip_folder, offline=True)
        assert 0 < chosen.ratio == told["ratio"] < 1 and chosen.settings["clip_revision"] == told["revision"]
        assert Clip.from_pretrained(clip_folder, offline=True).called("toy/clip").checkpoint.source == "toy/clip"

    def test_words_shown_are_those_of_the_scenes(self, scenes):
        from maskwright_recipes.clip_training import words_shown

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

    def test_several_words_can_be_likely_at_once_and_most_are_not(self):
        """A unit vector is near each of five words that lie apart by a cosine of 1 / sqrt 5 at most."""
        from maskwright_recipes.clip_training import BIAS, SCALE

        present, absent = torch.sigmoid(torch.tensor([SCALE * 5**-0.5 + BIAS, BIAS]))
        assert present > 0.9 and absent < 0.01

    def test_told_apart_counts_what_the_filter_keeps(self):
        from maskwright.text.filter_rules import keep_near_best
        from maskwright_recipes.clip_training import told_apart

        similarities = torch.rand(40, 6, generator=torch.Generator().manual_seed(0)) - torch.linspace(0, 1.2, 40)[:, None]
        shown = torch.rand(40, 6, generator=torch.Generator().manual_seed(1)) < 0.4
        for ratio in (0.3, 0.8):
            kept = torch.tensor([keep_near_best(row.tolist(), ratio=ratio) for row in similarities])
            right = float((kept & shown).sum())
            f1, precision, recall = told_apart(similarities, shown, ratio)
            assert (precision, recall) == pytest.approx((right / float(kept.sum()), right / float(shown.sum())))
            assert f1 == pytest.approx(2 * right / float(kept.sum() + shown.sum()))

    def test_seeds_are_those_of_the_batches(self, tmp_path, scenes, size):
        """Else pictures would be taught other pictures' words."""
        from maskwright_recipes.steps import Plan

        for pool in (0, 7):
            plan = Plan(scenes, size, tmp_path / str(pool), CPU, skip=30, pool=pool)
            for (pixels, _), seeds, _ in zip(plan.batches(5, 3, 4), plan.seeds(5, 3), range(3), strict=False):
                drawn = np.stack([scenes.render(int(seed)).image for seed in seeds])
                assert torch.equal(((pixels + 1) * 127.5).round().byte(), torch.from_numpy(drawn).permute(0, 3, 1, 2))


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
        assert state == {"count": 5, "start": 0, "painted": 5}
        damaged = np.load(tmp_path / "pixels.npy", mmap_mode="r+")
        damaged[3:] = 0
        damaged.flush()
        (tmp_path / "pool.json").write_text(json.dumps({**state, "painted": 3}))
        assert (open_pool(scenes, tmp_path, 5).pixels == wanted).all()

    def test_a_pool_of_other_scenes_is_refused(self, tmp_path, scenes):
        from maskwright.errors import SettingsError
        from maskwright_recipes.pool import open_pool

        open_pool(scenes, tmp_path, 3)
        plainer = copy.copy(scenes)
        plainer.list = dataclasses.replace(scenes.list, style=dataclasses.replace(scenes.list.style, shadow=0.0, turn=0))
        for other, count, start in ((scenes, 4, 0), (scenes, 3, 1), (scenes.close_up(16), 3, 0), (plainer, 3, 0)):
            with pytest.raises(SettingsError, match="something else"):
                open_pool(other, tmp_path, count, start=start)
        (tmp_path / "pool.json").write_text("{")
        with pytest.raises(SettingsError, match="cannot be read"):
            open_pool(scenes, tmp_path, 3)

    def test_captions_are_others_each_time_round(self, tmp_path, scenes):
        from maskwright_recipes.pool import open_pool

        pool = open_pool(scenes, tmp_path, 4)
        told = [caption for _, captions in zip(range(6), (batch[1] for batch in pool.batches(2, 4)), strict=False) for caption in captions]
        samples = range(2, 26)
        assert told == [scenes.caption(int(pool.seeds(sample, 1)[0]), sample // 4) for sample in samples]


class TestAlignment:
    @pytest.fixture
    def make_trainer(self, tmp_path, scenes, size, clip_folder):
        import shutil

        from maskwright_recipes.text_to_image import Course, Trainer

        save_autoencoder(tmp_path)
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

    def test_it_teaches_the_early_layers(self, make_trainer):
        trainer = make_trainer()
        tokens = trainer.tokenizer(["a box", ""], padding="max_length", return_tensors="pt").input_ids
        _, *seen = trainer.model.observe(torch.randn(2, 8, 8, 8), torch.tensor([3, 700]), tokens)
        trainer.alignment.loss(trainer.alignment(*seen), torch.rand(2, 3, 32, 32)).backward()
        unet = trainer.model.unet
        for layer in (unet.conv_in, unet.down_blocks[1].attentions[0].proj_out, trainer.alignment.up[0]):
            assert layer.weight.grad.abs().max() > 0
        assert unet.conv_out.weight.grad is None

    def test_a_training_goes_on_with_and_without(self, make_trainer, tmp_path):

        trainer = make_trainer()
        before = trainer.alignment.down[0].weight.clone()
        trainer.run(*feed(trainer))
        assert not torch.equal(before, trainer.alignment.down[0].weight)
        assert (tmp_path / "model" / "clip" / "config.json").is_file()
        assert not [path for path in (tmp_path / "model").rglob("*.safetensors") if b"alignment." in path.read_bytes()]
        again = make_trainer(samples=12)
        assert again.first == 4 and torch.equal(again.alignment.down[0].weight, trainer.alignment.down[0].weight)
        without = make_trainer(align=0.0, samples=12)
        assert without.first == 4 and without.alignment is None
        without.run(*feed(without))
        later = make_trainer(samples=16)  # begun anew: the checkpoint before knew of none
        assert later.first == 6 and not torch.equal(later.alignment.down[0].weight, trainer.alignment.down[0].weight)

    def test_without_a_clip_it_is_refused(self, tmp_path, scenes, size):
        from maskwright.errors import SettingsError
        from maskwright_recipes.networks import build_autoencoder
        from maskwright_recipes.steps import Plan, run_training
        from maskwright_recipes.text_to_image import Course

        build_autoencoder(size).save_pretrained(tmp_path / "vae")
        with pytest.raises(SettingsError, match="no CLIP"):
            run_training(Plan(scenes, size, tmp_path, CPU), Course(4, 2, 1e-3, 0.9, align=1.0))
