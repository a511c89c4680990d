"""DAAM; the mean over a word's tokens is the keys' business, tested with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskwright.discovery.synthesis import SynthesisSettings
from maskwright.errors import SettingsError
from maskwright.methods import daam
from maskwright.methods.daam.method import Daam
from maskwright.readings.attention import LayerMaps
from maskwright.readings.probe import Probe, Select
from tests.tiny import random
from tests.tolerances import assert_close

PIXELS = np.zeros((48, 80, 3), dtype=np.uint8)


def made(labels: int = 2) -> list[LayerMaps]:
    """Three grids of a latent of 24 x 40, not square."""
    return [
        LayerMaps(factor, layers, random(1, labels, 24 // factor, 40 // factor, seed=factor).abs())
        for factor, layers in ((2, 3), (4, 5), (8, 1))
    ]


def stretched(maps: torch.Tensor) -> torch.Tensor:
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low)


def test_heat_is_the_mean_over_layers_of_bicubic_maps_clamped_at_0() -> None:
    fine, coarse, skipped = made()
    grown = [F.interpolate(one.maps, (24, 40), mode="bicubic", align_corners=False) for one in (fine, coarse)]
    assert float(min(one.min() for one in grown)) < 0  # bicubic weights overshoot
    expected = stretched((3 * grown[0].clamp_min(0) + 5 * grown[1].clamp_min(0))[0] / 8)
    assert_close(Daam().heat([fine, coarse, skipped]), expected)


def test_maps_at_the_latent_side_are_not_resized() -> None:
    maps = random(1, 2, 9, 7).abs()
    assert_close(Daam().heat([LayerMaps(1, 4, maps)]), stretched(maps[0]))


def test_the_coarsest_maps_count_only_where_there_are_no_others() -> None:
    fine, coarse, skipped = made()
    louder = LayerMaps(8, 1, 100 * skipped.maps)
    assert torch.equal(Daam().heat([fine, coarse, louder]), Daam().heat([fine, coarse]))
    assert Daam().heat([skipped]).shape == (2, 24, 40)
    assert not torch.equal(Daam(skip=()).heat([fine, coarse, skipped]), Daam().heat([fine, coarse, skipped]))
    with pytest.raises(SettingsError, match="no cross-attention maps"):
        Daam().heat([])


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.9])
def test_the_mask_is_where_the_heat_is_above_the_threshold(threshold: float) -> None:
    method = Daam(threshold=threshold)
    heat, found = method.heat(made()), method.foreground(made(), None, PIXELS)
    assert torch.equal(found.mask, heat > threshold) and 0 < int(found.mask.sum()) < found.mask.numel()


def test_the_probability_is_the_heat_with_the_threshold_at_a_half() -> None:
    heat, probability = Daam().heat(made()), Daam().foreground(made(), None, PIXELS).probability
    assert_close(probability, torch.from_numpy(np.interp(heat.numpy(), [0, 0.4, 1], [0, 0.5, 1])).float())
    assert_close(Daam(threshold=0.5).foreground(made(), None, PIXELS).probability, Daam().heat(made()))


def test_labels_are_each_as_alone_and_runs_are_alike() -> None:
    maps = made(3)
    together, again = (Daam().foreground(maps, None, PIXELS, seed=seed) for seed in (0, 1))
    assert torch.equal(together.probability, again.probability)
    for label in range(3):
        one = [LayerMaps(layer.factor, layer.layers, layer.maps[:, label : label + 1]) for layer in maps]
        alone = Daam().foreground(one, None, PIXELS)
        assert torch.equal(alone.mask[0], together.mask[label]) and torch.equal(alone.probability[0], together.probability[label])


def test_a_flat_map_has_no_foreground() -> None:
    assert not bool(Daam().foreground([LayerMaps(2, 1, torch.full((1, 1, 4, 6), 0.3))], None, PIXELS).mask.any())


def test_what_is_read_is_cross_attention_alone() -> None:
    probe = Daam(timesteps=(200, 400), samples=2).probe()
    assert probe == Probe(timesteps=(200, 400), samples=2, cross=Select(stages=("down", "up"))) and Daam.grid_factor is None
    assert Daam().wording().write("dog") == "a photo of a dog"


def test_one_picture_at_a_time() -> None:
    with pytest.raises(ValueError, match="one picture"):
        Daam().foreground([LayerMaps(2, 1, random(2, 1, 4, 6))], None, PIXELS)


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.0}, {"timesteps": ()}, {"template": "x"}, {"samples": 0}])
def test_settings_that_cannot_be_used(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Daam(**wrong)


def test_the_page_says_at_which_steps_of_a_drawing_it_is_read() -> None:
    page = (Path(daam.__file__).parent / "README.md").read_text(encoding="utf-8")
    drawing = SynthesisSettings()
    assert f"`read_steps` {drawing.read_steps}" in page and f"`read_part` {drawing.read_part}" in page.replace("\n ", "")
    assert "own prompt, at every step." not in page
