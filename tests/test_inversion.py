"""DDIM inversion: the way up is diffusers' own, the way back undoes it, and a full one holds the partial one."""

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from torch import Tensor

from maskwright.backbones.inversion import INVERSIONS, Inversion, follow, invert, path
from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import SettingsError
from maskwright.readings.probe import Probe
from tests.tiny import Passes, build_backbone, build_scheduler, random
from tests.tolerances import assert_close

PREDICTIONS = pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])


def text(backbone: UNetBackbone, *prompts: str) -> Tensor:
    return backbone.text.encode(prompts or ("a dog",)).embeddings


def model(prediction: str) -> UNetBackbone:
    return build_backbone(scheduler=build_scheduler(prediction))


def up(backbone: UNetBackbone, latents: Tensor, *, mode: Inversion = "partial", timestep: int = 500, steps: int = 5) -> Tensor:
    return invert(backbone, latents, timestep=timestep, mode=mode, steps=steps, condition=text(backbone), seed=4)


@PREDICTIONS
def test_property_7_each_step_up_is_that_of_diffusers_inverse_scheduler(prediction: str) -> None:
    """A grid that both know: 0, 100, ..., 900."""
    backbone = model(prediction)
    oracle = DDIMInverseScheduler.from_config(backbone.scheduler.config)
    oracle.set_timesteps(10)
    latents, condition = random(2, 4, 8, 12), text(backbone, "a dog", "a cat")
    expected, grid = latents, range(0, 1000, 100)
    for step, found in zip(grid[1:], follow(backbone, latents, grid, condition), strict=True):
        predicted = backbone.predict(expected, torch.tensor(step), condition)
        expected = oracle.step(predicted, step, expected).prev_sample
        assert_close(found, expected)


@PREDICTIONS
def test_property_7_each_step_down_is_that_of_diffusers_scheduler(prediction: str) -> None:
    backbone = model(prediction)
    oracle = DDIMScheduler.from_config(backbone.scheduler.config)
    oracle.set_timesteps(10)
    rows, condition, grid = random(1, 4, 8, 8), text(backbone), range(900, -1, -100)
    expected = rows
    for step, found in zip(grid[:-1], follow(backbone, rows, grid, condition), strict=True):
        expected = oracle.step(backbone.predict(expected, torch.tensor(step), condition), step, expected).prev_sample
        assert_close(found, expected)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_property_7_more_steps_there_and_back_reconstruct_better(prediction: str) -> None:
    backbone, latents = model(prediction), random(2, 4, 8, 8)
    errors = []
    for steps in (2, 6, 18):
        route = path(500, mode="partial", steps=steps, beyond=1000)
        *_, back = follow(backbone, latents, (*route, *route[-2::-1]), text(backbone))
        errors.append(float((back - latents).square().mean().sqrt()))
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2], errors
    assert errors[2] < 0.2


def test_property_7_partial_equals_the_full_one_stopped_there_bit_for_bit(backbone: UNetBackbone) -> None:
    latents = random(2, 4, 8, 8)
    route = path(300, mode="full", steps=3, beyond=1000)
    assert route == (*range(0, 901, 100), 999, *range(900, 299, -100))
    states = dict(zip(route[1:4], follow(backbone, latents, route, text(backbone)), strict=False))
    partial = up(backbone, latents, timestep=300, steps=3)
    assert torch.equal(states[300], partial)
    whole = up(backbone, latents, mode="full", timestep=300, steps=3)
    assert whole.shape == partial.shape and not torch.equal(whole, partial)


@pytest.mark.parametrize(("timestep", "mode", "steps", "expected"), [
    (100, "partial", 5, (0, 20, 40, 60, 80, 100)), (100, "partial", 3, (0, 33, 67, 100)), (2, "partial", 5, (0, 1, 2)),
    (0, "partial", 5, (0,)), (999, "full", 3, (0, 333, 666, 999)), (400, "full", 1, (0, 400, 800, 999, 800, 400)),
    (900, "full", 2, (0, 450, 900, 999, 900)), (0, "full", 2, (0, 500, 999, 500, 0)), (100, "none", 5, ()),
])  # fmt: skip
def test_paths(timestep: int, mode: Inversion, steps: int, expected: tuple[int, ...]) -> None:
    assert path(timestep, mode=mode, steps=steps, beyond=1000) == expected


@pytest.mark.parametrize("timestep", [1, 7, 99, 250, 998])
@pytest.mark.parametrize("steps", [1, 3, 11])
def test_a_full_path_begins_with_the_partial_one_and_ends_where_that_does(timestep: int, steps: int) -> None:
    whole, part = (path(timestep, mode=mode, steps=steps, beyond=1000) for mode in ("full", "partial"))
    top = whole.index(999)
    assert whole[: len(part)] == part and whole[-1] == part[-1] == timestep
    assert list(whole[: top + 1]) == sorted(set(whole[: top + 1])) and whole[top:] == whole[len(part) - 1 : top + 1][::-1]


def test_none_is_the_backbones_own_noise(backbone: UNetBackbone) -> None:
    latents = random(2, 4, 8, 8)
    with Passes(backbone.unet) as passes:
        rows = up(backbone, latents, mode="none", timestep=100)
    assert passes.count == 0
    assert torch.equal(rows, backbone.noised(latents, Probe(timesteps=(100,)), seed=4)[0])


def test_so_many_passes_as_steps(backbone: UNetBackbone) -> None:
    for mode, expected in (("partial", 5), ("full", 5 + 5 + 5)):  # to 500, on to 999, and back
        with Passes(backbone.unet) as passes:
            up(backbone, random(3, 4, 8, 8), mode=mode)
        assert (passes.count, passes.rows) == (expected, 3 * expected)


@pytest.mark.parametrize("mode", INVERSIONS)
def test_neighbours_do_not_matter_and_a_seed_repeats(backbone: UNetBackbone, mode: Inversion) -> None:
    latents = random(3, 4, 8, 12)
    together = up(backbone, latents, mode=mode, steps=2)
    assert torch.equal(up(backbone, latents, mode=mode, steps=2), together)
    for row in range(3):
        assert_close(up(backbone, latents[row : row + 1], mode=mode, steps=2), together[row : row + 1])
    other = invert(backbone, latents, timestep=500, mode=mode, steps=2, condition=text(backbone), seed=5)
    assert torch.equal(other, together) == (mode != "none")


def test_each_picture_has_its_own_condition(backbone: UNetBackbone) -> None:
    latents, both = random(2, 4, 8, 8), text(backbone, "a dog", "a cat")
    together = invert(backbone, latents, timestep=500, mode="partial", steps=2, condition=both)
    for row in range(2):
        one = invert(backbone, latents[row : row + 1], timestep=500, mode="partial", steps=2, condition=both[row : row + 1])
        assert_close(together[row : row + 1], one)
    swapped = invert(backbone, latents, timestep=500, mode="partial", steps=2, condition=both.flip(0))
    assert float((together - swapped).abs().max()) > 1e-3


def test_half_precision_moves_in_float32(backbone: UNetBackbone, half_backbone: UNetBackbone) -> None:
    latents = random(1, 4, 8, 8).bfloat16()
    rows = up(half_backbone, latents, timestep=100, steps=2)
    assert rows.dtype == torch.bfloat16
    assert_close(rows, up(backbone, latents.float(), timestep=100, steps=2), dtype=torch.bfloat16)


@pytest.mark.parametrize(("options", "message"), [
    ({"timestep": 1000}, "timestep 1000 .*use 0 to 999"), ({"timestep": -1}, "use 0 to 999"), ({"steps": 0}, "at least 1 step, not 0"),
    ({"mode": "half"}, "unknown inversion 'half': use none, partial, full"),
])  # fmt: skip
def test_refusals(backbone: UNetBackbone, options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        up(backbone, random(1, 4, 8, 8), **options)  # type: ignore[arg-type]
