"""Portraits strewn into a training: which steps take them, what they show, and that such a training runs and goes on."""

import itertools

import numpy as np
import pytest
import torch

from tests.tiny_words import open_toys, save_autoencoder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
CPU = torch.device("cpu")


@pytest.fixture
def make_plan(tmp_path):
    """Plans for the toys at 32 pixels, with an autoencoder of random weights in their folder."""
    from maskwright_recipes.steps import Plan

    scenes, size = open_toys(tmp_path), save_autoencoder(tmp_path)
    return lambda **more: Plan(scenes, size, tmp_path, CPU, **more)


@pytest.mark.parametrize("share", [0.0, 0.25, 2 / 3, 1.0])
def test_steps_are_shared_evenly_whenever_one_begins(share):
    from maskwright_recipes.streams import alternate

    taken = list(itertools.islice(alternate(itertools.repeat(0), itertools.repeat(1), share), 120))
    assert sum(taken) == pytest.approx(120 * share, abs=1)
    assert all(abs(sum(taken[:end]) - end * share) <= 1 for end in range(1, 121))
    later = list(itertools.islice(alternate(itertools.repeat(0), itertools.repeat(1), share, first=50), 70))
    assert later == taken[50:]


def test_a_plan_feeds_portraits_of_half_the_side_without_words_and_the_others_with_theirs(make_plan):
    plan = make_plan(skip=30, portraits=0.5)
    alone = plan.scenes.portraits(16)
    scenes, single = itertools.count(plan.skip + 3 * 4), itertools.count(plan.skip + 3 * 4)
    for number, ((pixels, captions), seeds) in enumerate(itertools.islice(zip(*plan.feed(3, 4, 10), strict=True), 4), start=3):
        portraits = number % 2 == 1
        rendered = [alone.render(next(single)) if portraits else plan.scenes.render(next(scenes)) for _ in range(4)]
        drawn = torch.from_numpy(np.stack([scene.image for scene in rendered])).permute(0, 3, 1, 2)
        assert torch.equal(((pixels + 1) * 127.5).round().byte(), drawn) and captions == [scene.caption for scene in rendered]
        assert pixels.shape[-1] == (16 if portraits else 32) and len(seeds) == (0 if portraits else 4)


def test_no_words_are_asked_of_portraits(make_plan, tmp_path):
    from maskwright_recipes.text_to_image import Course, Trainer

    plan = make_plan()
    trainer = Trainer(tmp_path, plan.scenes, plan.size, Course(8, 2, 1e-3, 0.9, attend=0.5), device=CPU)
    assert trainer.ask(0, ()) is None and trainer.ask(0, range(2)) is not None


def test_portraits_are_trained_under_more_noise_than_what_is_read(make_plan, tmp_path, monkeypatch):
    from maskwright_recipes import text_to_image, timesteps

    drawn = []

    def draw(*given, **more):
        drawn.append(timesteps.draw_timesteps(*given, **more))
        return drawn[-1]

    monkeypatch.setattr(text_to_image, "draw_timesteps", draw)
    plan = make_plan()
    trainer = text_to_image.Trainer(tmp_path, plan.scenes, plan.size, text_to_image.Course(8, 2, 1e-3, 0.9), device=CPU)
    for side in (16, 32):
        trainer.loss(torch.zeros(400, 3, side, side), [""] * 400, None, torch.Generator().manual_seed(0))
    (portraits, scenes) = (times.float() for times in drawn)
    assert portraits.mean() == pytest.approx(560, abs=30) and scenes.mean() == pytest.approx(480, abs=30)


def test_such_a_training_ends_and_goes_on(make_plan, tmp_path):
    from maskwright_recipes.checkpoints import load_checkpoint
    from maskwright_recipes.steps import run_training
    from maskwright_recipes.text_to_image import Course

    plan = make_plan(portraits=0.5)
    for samples in (8, 14):
        assert (run_training(plan, Course(samples, 2, 1e-3, 0.9, attend=0.5, teach=True)) / "unet").is_dir()
        assert load_checkpoint(tmp_path / "checkpoint").samples == samples
