"""Scenes composed in batches on a device: the renderer's distribution, not its pixels.

Same steps as `maskwright.datasets.painting`: ground, objects with soft shadows, light, blur, noise. What differs: grounds come from a
library that was painted before, objects are sampled from their artwork at half, quarter or full size instead of being resized
exactly, and of a few placements the first is taken in which every object shows enough of itself.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from maskwright.datasets.grounds import GROUNDS
from maskwright.datasets.scene_style import SceneStyle
from maskwright.datasets.scenes import SceneSet
from maskwright.datasets.word_list import CELL

LEVELS = 3  # artwork at full, half and quarter size
GAP = 2  # pixels between them
LEVEL_BIAS = 0.25  # 0: never enlarged, but rough; 1: always enlarged, hence soft. Between, edges are as sharp as the renderer's
LUMA = (0.299, 0.587, 0.114)
PLACEMENTS = 4  # tried for each scene
COARSE = 4  # they are compared at a quarter of the side
BLUR_RADIUS = 3  # pixels


@dataclass(frozen=True, eq=False)
class Library:
    """All that scenes are composed of, on one device.

    Attributes:
        cells: (artworks, 4, height, width), premultiplied RGBA in 0..1, each at three sizes side by side.
        first: (objects,) row of an object's first artwork.
        count: (objects,) how many artworks it has.
        mirrored: (objects,) whether it may be flipped.
        grounds: (grounds, pictures, 3, side, side) uint8.
        style: ranges that everything else is drawn from.
    """

    cells: Tensor
    first: Tensor
    count: Tensor
    mirrored: Tensor
    grounds: Tensor
    style: SceneStyle

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.cells.device

    @property
    def side(self) -> int:
        """Pixels a side of a scene."""
        return int(self.grounds.shape[-1])


@dataclass(frozen=True, eq=False)
class Poses:
    """How each object of each scene stands; all (scenes, objects) unless said otherwise.

    Attributes:
        artwork: row of the library's cells.
        present: whether there is an object.
        pixels: side of the object.
        angle: in radians.
        flipped: -1 or 1.
        centre: (scenes, objects, 2), x and y in pixels.
        brightness: factor.
        colour: factor.
    """

    artwork: Tensor
    present: Tensor
    pixels: Tensor
    angle: Tensor
    flipped: Tensor
    centre: Tensor
    brightness: Tensor
    colour: Tensor


def build_library(scenes: SceneSet, device: torch.device, *, grounds: int = 256, seed: int = 0, workers: int = 4) -> Library:
    """Paints `grounds` pictures of each ground and loads all artwork."""
    artwork = [art for choices in scenes.artwork for art in choices]
    count = torch.tensor([len(choices) for choices in scenes.artwork])
    side, words = scenes.list.side, scenes.words

    def paint(place: int) -> Tensor:
        rng = np.random.default_rng([seed, place])
        painted = (GROUNDS[words.grounds[place].draw](side, rng, **words.grounds[place].settings) for _ in range(grounds))
        pixels = np.stack([np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8) for picture in painted])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    with ThreadPoolExecutor(workers) as pool:
        painted = torch.stack(list(pool.map(paint, range(len(words.grounds)))))
    return Library(
        torch.stack([_levels(art) for art in artwork]).to(device), (count.cumsum(0) - count).to(device), count.to(device),
        torch.tensor([word.mirrored for word in words.objects]).to(device), painted.to(device), scenes.list.style,
    )  # fmt: skip


def _level_origin(level: int) -> tuple[int, int]:
    """Upper left corner (row, column) of the artwork at 1 / 2^level of its size."""
    return (1, 1) if level == 0 else (1 + (level - 1) * (CELL // 2 + GAP), 1 + CELL + GAP)


def _levels(art: Image.Image) -> Tensor:
    """The artwork at three sizes, side by side: (4, CELL + 2, CELL * 3 / 2 + 2 + GAP), premultiplied."""
    sheet = torch.zeros(4, CELL + 2, CELL + CELL // 2 + 2 + GAP)
    for level in range(LEVELS):
        side = CELL >> level
        pixels = np.asarray(art.resize((side, side), Image.Resampling.LANCZOS), dtype=np.float32) / 255
        row, column = _level_origin(level)
        rgba = torch.from_numpy(pixels).permute(2, 0, 1)
        sheet[:, row : row + side, column : column + side] = torch.cat([rgba[:3] * rgba[3:], rgba[3:]])
    return sheet


def _choice(portraits: Tensor | None, count: int, device: torch.device) -> Callable[[float, float], Tensor]:
    """A function of two values that gives (scenes, 1): the second for portraits, the first for the other scenes."""
    chosen = (torch.zeros(count, device=device) if portraits is None else portraits.float())[:, None]
    return lambda usual, portrait: usual + (portrait - usual) * chosen


def draw_poses(library: Library, objects: Tensor, *, generator: torch.Generator, portraits: Tensor | None = None) -> Poses:
    """Draws how objects (scenes, objects), -1 for none, stand; `portraits` (scenes,) says which scenes are portraits."""
    style, side, device = library.style, library.side, library.device
    larger, by_scene = style.for_portraits(), _choice(portraits, len(objects), device)

    def uniform(low: float | Tensor, high: float | Tensor, *more: int) -> Tensor:
        return low + (high - low) * torch.rand(*objects.shape, *more, generator=generator, device=device)

    present, known = objects >= 0, objects.clamp(min=0)
    low, high = map(by_scene, style.scale, larger.scale)
    nearest, farthest = (ends[..., None] for ends in map(by_scene, style.place, larger.place))
    amount = present.sum(1, keepdim=True)
    crowding = (style.crowd / amount.clamp(min=1)).sqrt().clamp(max=1) if style.crowd else torch.ones_like(amount, dtype=torch.float32)
    turn = by_scene(style.turn, larger.turn) * torch.pi / 180
    flipped = (torch.rand(objects.shape, generator=generator, device=device) < by_scene(style.flip, larger.flip)) & library.mirrored[known]
    variant = (torch.rand(objects.shape, generator=generator, device=device) * library.count[known]).long()
    return Poses(
        artwork=library.first[known] + variant, present=present, pixels=(side * uniform(low, (high * crowding).clamp(min=low))).round(),
        angle=uniform(-turn, turn), flipped=1 - 2 * flipped.float(), centre=uniform(nearest, farthest, 2) * side,
        brightness=uniform(*style.brightness), colour=uniform(*style.colour),
    )  # fmt: skip


def sample_object(library: Library, poses: Poses, number: int, *, side: int) -> Tensor:
    """One object of each scene on an empty canvas: (scenes, 4, side, side), premultiplied; `side` may be coarser than the library's."""
    artwork, pixels, angle = poses.artwork[:, number], poses.pixels[:, number], poses.angle[:, number]
    step = library.side / side
    ticks = (torch.arange(side, device=library.device) + 0.5) * step
    x = (ticks[None, None, :] - poses.centre[:, number, 0, None, None]) / pixels[:, None, None]
    y = (ticks[None, :, None] - poses.centre[:, number, 1, None, None]) / pixels[:, None, None]
    sine, cosine = angle.sin()[:, None, None], angle.cos()[:, None, None]
    across = (cosine * x - sine * y) * poses.flipped[:, number, None, None]  # in -0.5..0.5 inside of the artwork
    down = sine * x + cosine * y
    inside = (across.abs() < 0.5) & (down.abs() < 0.5) & poses.present[:, number, None, None]
    level = ((CELL / pixels).log2() + LEVEL_BIAS).floor().clamp(0, LEVELS - 1).long()
    origins = torch.tensor([_level_origin(place) for place in range(LEVELS)], device=library.device, dtype=torch.float32)[level]
    size = (CELL / 2**level)[:, None, None]
    height, width = library.cells.shape[-2:]
    column = (origins[:, 1, None, None] + (across + 0.5) * size) * 2 / width - 1
    row = (origins[:, 0, None, None] + (down + 0.5) * size) * 2 / height - 1
    sampled = F.grid_sample(library.cells[artwork], torch.stack([column, row], dim=-1), align_corners=False)
    return sampled * inside[:, None]


def find_owners(library: Library, poses: Poses, *, side: int) -> Tensor:
    """Which object is visible at each pixel, (scenes, side, side) int64: 0 is the ground, 1 the first object."""
    owners = torch.zeros(len(poses.artwork), side, side, dtype=torch.long, device=library.device)
    for number in range(poses.artwork.shape[1]):
        owners = torch.where(sample_object(library, poses, number, side=side)[:, 3] > 0.5, number + 1, owners)
    return owners


def place_objects(library: Library, objects: Tensor, *, generator: torch.Generator, portraits: Tensor | None = None) -> Poses:
    """Poses in which every object shows enough of itself, or the best of a few; arguments as those of `draw_poses`."""
    repeated = None if portraits is None else portraits.repeat(PLACEMENTS)
    tried = draw_poses(library, objects.repeat(PLACEMENTS, 1), generator=generator, portraits=repeated)
    side = library.side // COARSE
    owners = find_owners(library, tried, side=side)
    shown = torch.stack([(owners == number + 1).sum((1, 2)) for number in range(objects.shape[1])], dim=1)
    least = library.style.visible * (library.style.scale[0] * side) ** 2 * 0.5
    shares = torch.where(tried.present, shown / least, torch.inf).amin(1).view(PLACEMENTS, -1)  # (placement, scene)
    chosen = shares.clamp(max=1).argmax(0)  # the first of those that are good enough
    rows = chosen * len(objects) + torch.arange(len(objects), device=library.device)
    return Poses(**{name: value[rows] for name, value in vars(tried).items()})


def compose_batch(
    library: Library, objects: Tensor, grounds: Tensor, *, generator: torch.Generator, portraits: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Composes scenes.

    Args:
        library: with artwork and grounds.
        objects: (scenes, objects) positions of words in painting order, -1 for none.
        grounds: (scenes,) positions of ground words.
        generator: on the library's device.
        portraits: (scenes,) bool, which scenes are portraits of their one object; None: none.

    Returns:
        Pictures (scenes, 3, side, side) float32 in 0..1, and label maps (scenes, side, side) int64: positions of words, objects
        before grounds.
    """
    side, style, count = library.side, library.style, len(objects)
    picked = torch.randint(library.grounds.shape[1], (count,), generator=generator, device=library.device)
    image = library.grounds[grounds, picked].float() / 255
    mirrored = torch.rand(count, generator=generator, device=library.device) < 0.5
    image = torch.where(mirrored[:, None, None, None], image.flip(3), image)
    poses = place_objects(library, objects, generator=generator, portraits=portraits)
    labels = (grounds + len(library.first))[:, None, None].expand(-1, side, side).clone()
    for number in range(objects.shape[1]):
        layer = sample_object(library, poses, number, side=side)
        alpha = layer[:, 3:]
        coloured = (layer[:, :3] * poses.brightness[:, number, None, None, None]).clamp(max=1).minimum(alpha)
        grey = (coloured * coloured.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        coloured = (grey + poses.colour[:, number, None, None, None] * (coloured - grey)).clamp(min=0).minimum(alpha)
        if style.shadow:
            image = image * (1 - style.shadow * _soften(alpha))
        image = image * (1 - alpha) + coloured
        labels = torch.where(alpha[:, 0] > 0.5, objects[:, number, None, None], labels)
    return (_finish(image, style, portraits, generator) * 255).round() / 255, labels


def _soften(alpha: Tensor) -> Tensor:
    """The shape of a shadow (scenes, 1, side, side): shrunk and enlarged again, shifted by 3 % of the side."""
    side = alpha.shape[-1]
    soft = F.interpolate(F.avg_pool2d(alpha, 4), size=(side, side), mode="bicubic", align_corners=False)
    shift = max(1, round(side * 0.03))
    return F.pad(soft, (shift, 0, shift, 0))[..., :side, :side].clamp(0, 1)


def _finish(image: Tensor, style: SceneStyle, portraits: Tensor | None, generator: torch.Generator) -> Tensor:
    """Light from one side, blur and noise, as far as the style has them for a scene or a portrait; in 0..1."""
    count, _, side, _ = image.shape
    larger, by_scene = style.for_portraits(), _choice(portraits, count, image.device)

    def uniform(high: float | Tensor) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator, device=image.device) * high

    ticks = (torch.arange(side, device=image.device) - (side - 1) / 2) / side
    if style.light:
        angle = uniform(2 * torch.pi)
        across = ticks[:, None] * angle.cos() - ticks[None, :] * angle.sin()  # (scenes, 1, side, side)
        image = image * (1 + uniform(style.light) * across / across.abs().amax((2, 3), keepdim=True))
    if style.blur:
        deviation = (uniform(by_scene(style.blur, larger.blur)[..., None, None]) * side).clamp(min=1e-2).view(count, 1)
        offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=image.device)
        kernel = torch.exp(-((offsets / deviation) ** 2) / 2)
        kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)  # (scenes * 3, taps)
        rows = F.pad(image.clamp(0, 1).reshape(1, count * 3, side, side), (BLUR_RADIUS,) * 4, mode="replicate")
        rows = F.conv2d(rows, kernel[:, None, :, None], groups=count * 3)
        image = F.conv2d(rows, kernel[:, None, None, :], groups=count * 3).view(count, 3, side, side)
    if style.noise:
        deviation = uniform(by_scene(style.noise, larger.noise)[..., None, None])
        image = image + deviation * torch.randn(image.shape, generator=generator, device=image.device)
    return image.clamp(0, 1)
