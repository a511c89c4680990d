"""Scenes composed in batches follow the renderer's distribution; the same code runs on any device."""

import dataclasses

import numpy as np
import pytest
import torch

from maskwright.datasets.scenes import open_scenes
from maskwright_recipes.composing import build_library, compose_batch, draw_poses, find_owners, place_objects
from maskwright_recipes.streams import Plans, composed_batches

COUNT = 160
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def library():
    return build_library(open_scenes(), CPU, grounds=24, workers=1)


@pytest.fixture(scope="module")
def both(library):
    """Pictures in 0..1 and label maps of the same contents: composed, and painted."""
    scenes = open_scenes()
    objects, grounds, _, _ = Plans(scenes, 0, COUNT, 1)[0]
    composed = compose_batch(library, torch.tensor(objects), torch.tensor(grounds), generator=torch.Generator().manual_seed(0))
    painted = [scenes.render(seed) for seed in range(COUNT)]
    pictures = torch.from_numpy(np.stack([scene.image for scene in painted])).permute(0, 3, 1, 2) / 255
    return composed, (pictures, torch.from_numpy(np.stack([scene.labels for scene in painted])).long())


def test_pictures_and_labels_have_the_renderers_form(both, library):
    (pictures, labels), (painted, truth) = both
    assert pictures.shape == painted.shape and labels.shape == truth.shape
    assert pictures.dtype == torch.float32 and 0 <= pictures.min() and pictures.max() <= 1
    assert torch.equal((pictures * 255).round() / 255, pictures)


def test_each_scene_shows_the_words_of_its_plan(both):
    (_, labels), (_, truth) = both
    same = [set(one.unique().tolist()) == set(other.unique().tolist()) for one, other in zip(labels, truth, strict=True)]
    assert np.mean(same) > 0.98


def test_colours_contrast_and_object_sizes_are_distributed_alike(both):
    (pictures, labels), (painted, truth) = both
    torch.testing.assert_close(pictures.mean((0, 2, 3)), painted.mean((0, 2, 3)), atol=0.02, rtol=0)
    torch.testing.assert_close(pictures.std((0, 2, 3)), painted.std((0, 2, 3)), atol=0.02, rtol=0)
    shares = [(maps < 48).float().mean((1, 2)) for maps in (labels, truth)]
    assert abs(shares[0].mean() - shares[1].mean()) < 0.02
    levels = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(torch.quantile(shares[0], levels), torch.quantile(shares[1], levels), atol=0.05, rtol=0)
    fine = [(one[..., 1:] - one[..., :-1]).abs().mean() for one in (pictures, painted)]  # blur or aliasing would change it
    assert 0.9 < fine[0] / fine[1] < 1.1


def test_objects_have_their_colours_where_their_labels_are(library):
    scenes = open_scenes()
    names = [word.name for word in scenes.words.objects]
    for name, light, dark in (("frog", 1, 2), ("strawberry", 0, 2), ("whale", 2, 0)):
        number = names.index(name)
        objects = torch.full((16, 3), -1)
        objects[:, 0] = number
        pictures, labels = compose_batch(library, objects, torch.full((16,), 7), generator=torch.Generator().manual_seed(1))
        shown = pictures.permute(0, 2, 3, 1)[labels == number].mean(0)
        painted = [scenes.compose([name], "night", seed=seed) for seed in range(16)]
        wanted = np.mean([scene.image[scene.labels == number].mean(0) / 255 for scene in painted], axis=0)
        assert shown[light] > shown[dark]
        np.testing.assert_allclose(shown.numpy(), wanted, atol=0.05)


def test_later_objects_cover_earlier_ones_and_all_show(library):
    objects = torch.randint(48, (64, 3), generator=torch.Generator().manual_seed(2))
    poses = place_objects(library, objects, generator=torch.Generator().manual_seed(3))
    owners = find_owners(library, poses, side=64)
    shown = torch.stack([(owners == place).sum((1, 2)) for place in (1, 2, 3)], dim=1)
    least = library.style.visible * (library.style.scale[0] * 64) ** 2 * 0.5
    assert (shown >= 0.8 * least).float().mean() > 0.97  # counted at a quarter of the side


def test_flags_are_not_mirrored_and_crowds_are_smaller():
    full = open_scenes("scenes-full")
    library = build_library(full, CPU, grounds=1, workers=1)
    flag = [word.name for word in full.words.objects].index("flag of Canada")
    objects = torch.full((200, 6), flag)
    objects[100:, 1:] = -1
    poses = draw_poses(library, objects, generator=torch.Generator().manual_seed(0))
    assert (poses.flipped[poses.present] == 1).all()
    assert poses.pixels[:100].max() < 0.45 * 128 < poses.pixels[100:, 0].max()
    pictures, labels = compose_batch(library, objects[:6], torch.zeros(6, dtype=torch.long), generator=torch.Generator().manual_seed(0))
    assert pictures.shape == (6, 3, 128, 128) and set(labels.unique().tolist()) == {flag, 115}


def test_portraits_are_larger_upright_and_in_the_middle(library):
    objects = torch.zeros(400, 3, dtype=torch.long)
    objects[:, 1:] = -1
    portraits = torch.arange(400) < 200
    poses = draw_poses(library, objects, generator=torch.Generator().manual_seed(0), portraits=portraits)
    style = library.style.for_portraits()
    near, usual = poses.centre[:200, 0] / 64, poses.centre[200:, 0] / 64
    assert style.place[0] <= near.min() and near.max() <= style.place[1] and usual.min() < 0.2 and usual.max() > 0.8
    assert poses.pixels[:200, 0].min() >= round(style.scale[0] * 64) > poses.pixels[200:, 0].min()
    assert poses.angle[:200, 0].abs().max() <= style.turn * torch.pi / 180 < poses.angle[200:, 0].abs().max()
    assert (poses.flipped[:200, 0] == 1).all() and (poses.flipped[200:, 0] < 0).any() == bool(library.mirrored[0])
    grounds, generator = torch.zeros(400, dtype=torch.long), torch.Generator().manual_seed(0)
    _, labels = compose_batch(library, objects, grounds, generator=generator, portraits=portraits)
    shown = (labels == 0).float().mean((1, 2))
    assert shown[:200].mean() > 1.4 * shown[200:].mean()


def test_light_blur_and_noise_do_what_they_say(library):
    snow, sand = 4, 2

    def compose(ground, **style):
        styled = dataclasses.replace(library, style=dataclasses.replace(library.style, **style))
        empty = torch.full((24, 3), -1)
        return compose_batch(styled, empty, torch.full((24,), ground), generator=torch.Generator().manual_seed(5))[0]

    plain, noisy, lit = compose(snow), compose(snow, noise=0.1), compose(snow, light=0.5)
    assert 0.02 < (noisy - plain).std() < 0.08
    assert (lit[:, :, :8].mean() - lit[:, :, -8:].mean()).abs() < 0.2 and lit.std() > 1.5 * plain.std()
    rough = [(one[..., 1:] - one[..., :-1]).abs().mean() for one in (compose(sand), compose(sand, blur=0.03))]
    assert rough[1] < 0.6 * rough[0]


def test_batches_follow_their_number_and_the_seed(library):
    scenes = open_scenes()
    one, two = composed_batches(library, scenes, 0, 4, batches=2, workers=0)
    again = next(composed_batches(library, scenes, 4, 4, batches=1, workers=0))
    assert torch.equal(two[0], again[0]) and two[1] == again[1] and not torch.equal(one[0], two[0])
    assert one[0].shape == (4, 3, 64, 64) and -1 <= one[0].min() < -0.2 and one[0].max() <= 1
    assert two[1] == [scenes.captions(seed, count=1)[0] for seed in range(4, 8)]


def test_plans_say_which_scenes_are_portraits():
    full = open_scenes("scenes-full")
    objects, _, portraits, _ = Plans(full, 0, 64, 1)[0]
    assert 0 < portraits.sum() < 64 and ((objects[portraits] >= 0).sum(1) == 1).all()
    assert portraits.tolist() == [full.contents(seed).portrait for seed in range(64)]


def test_portraits_are_neither_blurred_nor_noisy(library):
    rough = dataclasses.replace(library, style=dataclasses.replace(library.style, light=0.0, blur=0.05, noise=0.2))
    objects, grounds = torch.zeros(4, 1, dtype=torch.long), torch.zeros(4, dtype=torch.long)
    portraits = torch.tensor([True, True, False, False])

    def pictures(of):
        return compose_batch(of, objects, grounds, generator=torch.Generator().manual_seed(0), portraits=portraits)[0]

    same = [bool(torch.equal(one, other)) for one, other in zip(pictures(rough), pictures(library), strict=True)]
    assert same == [True, True, False, False]
