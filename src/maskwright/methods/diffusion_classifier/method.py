"""The diffusion classifier made local: a word is where it helps the network to remove noise. See README.md."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.methods.maps import EPS, mean_over_layers, min_max, resize_maps
from maskwright.readings.denoising import Denoiser
from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import Probe, Select
from maskwright.readings.reading import Reading
from maskwright.score_maps import check_finite
from maskwright.text.planning import plan_text
from maskwright.text.wording import Prompting, Wording
from maskwright.vocabulary import Label, Vocabulary

LEAST = 0.01  # the best label of a pixel scores so much at least; labels that left score 0


@dataclass(frozen=True)
class DiffusionClassifier:
    """This project's own method; step numbers as in README.md beside this file.

    Attributes:
        prompting: what the picture is read under: "shared" (the empty prompt), "per-label" (labels do not compete) or "joint".
        timesteps: of the reading.
        samples: noise samples of the reading per timestep, averaged.
        factors: cross-attention grids by latent side / grid side; those that a model lacks are left out.
        first: timesteps of the first look, which all labels get, with one noise sample.
        looks: timesteps of the second look, which the shortlist gets.
        look_samples: noise samples of the second look per timestep.
        mirror: whether the second look takes each noise sample with its sign changed, too, which costs twice the rows.
        shortlist: labels that get a second look.
        least: a label whose part of the picture is smaller leaves, 0 to 1; 0 for none.
        keep: so many labels never leave.
        weight: of the evidence beside attention.
        hops: of self-attention over evidence and attention.
        sharpen: power to which self-attention is raised for these hops; 1 leaves it as it is.
        contrast: how steeply a label falls behind the best one of a pixel.
        template: the prompt of a label or of labels joined.
        padding: "merged" or "exact" padding; the prompts of the looks are always whole.
        squash: read at the model's square.
    """

    name: ClassVar[str] = "diffusion-classifier"
    meaning: ClassVar[str] = "attention and how much the word helps to remove noise; less where another word does better"
    stretch: ClassVar[Literal["label", "none"]] = "none"
    background: ClassVar[float | None] = 0.5

    prompting: Prompting = "shared"
    timesteps: tuple[int, ...] = (300,)
    samples: int = 1
    factors: tuple[int, ...] = (2, 4)
    first: tuple[int, ...] = (800,)
    looks: tuple[int, ...] = (350, 500, 650, 800)
    look_samples: int = 1
    mirror: bool = True
    shortlist: int = 24
    least: float = 0.03
    keep: int = 6
    weight: float = 8.0
    hops: int = 1
    sharpen: float = 1.5
    contrast: float = 5.0
    template: str = "a photograph of {}"
    padding: Literal["merged", "exact"] = "merged"
    squash: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be read or computed."""
        if not 0 <= self.least <= 1:
            raise SettingsError(f"least must lie in 0..1, not {self.least}")
        for setting in ("shortlist", "keep", "look_samples"):
            if getattr(self, setting) < 1:
                raise SettingsError(f"{setting} must be at least 1, not {getattr(self, setting)}")
        if not self.weight >= 0 or self.hops < 0:
            raise SettingsError(f"weight and hops must be 0 or more, not {self.weight} and {self.hops}")
        if not self.sharpen >= 0:
            raise SettingsError(f"sharpen must be 0 or more, not {self.sharpen}")
        if not self.contrast > 0:
            raise SettingsError(f"contrast must be above 0, not {self.contrast}")
        if not self.factors:
            raise SettingsError("factors must name one or more")
        self.wording()  # refuses its own settings
        for timesteps in (self.timesteps, self.first, self.looks):
            Probe(timesteps=timesteps, samples=self.samples)

    def wording(self) -> Wording:
        """One short prompt a label, or one that joins them."""
        return Wording(template=self.template, padding=self.padding)

    def probe(self) -> Probe:
        """Step 1: cross-attention, and the finest self-attention."""
        return Probe(
            timesteps=self.timesteps, samples=self.samples, cross=self._cross, self_attention=Select(factors="finest"), self_mode="fold"
        )  # fmt: skip

    @property
    def _cross(self) -> Select:
        return Select(factors=self.factors)

    def score(self, reading: Reading, keys: TextKeys) -> Tensor:
        """Steps 2 to 5, picture by picture: (pictures, labels, h, w) float32.

        Raises:
            SettingsError: a reading of pictures that were drawn, not given.
        """
        return torch.stack([self._score_one(reading.picture(row), keys) for row in range(reading.pictures)])

    def _score_one(self, reading: Reading, keys: TextKeys) -> Tensor:
        gains, asked = self.evidence(reading, keys)
        kept = [asked[place] for place in self.present(gains[asked])]
        competing = self.attention(reading, keys, kept) + self.weight * gains[kept]
        best = competing.amax(0)
        scores = torch.zeros_like(gains)
        scores[kept] = best.clamp(LEAST, 1) * (self.contrast * (competing - best)).exp()
        return scores

    def evidence(self, reading: Reading, keys: TextKeys) -> tuple[Tensor, list[int]]:
        """Step 2: how much less the network errs under each label than under the empty prompt, as a part of its mean error there.

        Args:
            reading: of one picture.
            keys: of the labels.

        Returns:
            (labels, h, w) float32, 0 for labels that got no second look; and the places of those that did.
        """
        places = list(range(len(keys)))
        gains = torch.zeros(len(places), *reading.self_attention.grid, device=keys.embeddings.device)
        if len(places) > self.shortlist:
            places = _strongest(self._gains(reading, keys, places, self.first), self.shortlist)
        gains[places] = self._gains(reading, keys, places, self.looks, samples=self.look_samples, mirrored=self.mirror)
        return gains, places

    def present(self, gains: Tensor) -> list[int]:
        """Step 3: places of the labels that stay, those of most votes last, as a sentence ends with what all stands on.

        Args:
            gains: (labels, h, w); each pixel votes for its best. `keep` labels of most votes stay, and all of at least `least`.
        """
        votes = gains.flatten(1).argmax(0)
        parts = torch.bincount(votes, minlength=len(gains)) / len(votes)
        order = parts.argsort(descending=True, stable=True).tolist()
        return [place for rank, place in enumerate(order) if rank < self.keep or parts[place] >= self.least][::-1]

    def attention(self, reading: Reading, keys: TextKeys, kept: list[int]) -> Tensor:
        """Step 4: the labels that stay compete in one prompt, (labels, h, w) in 0..1, each stretched by itself.

        Args:
            reading: of one picture.
            keys: of all labels.
            kept: places of those that stay, in the order in which the prompt names them.
        """
        vocabulary = Vocabulary(tuple(Label(keys.names[place][0], keys.names[place][1:]) for place in kept))
        plan = plan_text(_denoiser(reading).network.text, vocabulary, self.wording(), "joint")
        mean = mean_over_layers(reading.cross_attention_of(self._cross).maps(plan.keys), reading.self_attention.grid)
        return min_max(self._complete(reading, mean))[0]

    def _gains(
        self, reading: Reading, keys: TextKeys, places: list[int], timesteps: tuple[int, ...], *, samples: int = 1, mirrored: bool = False
    ) -> Tensor:
        """(places, h, w): each timestep counts alike, whatever its error; of several names of a label the better one, pixel by pixel."""
        denoiser, wording = _denoiser(reading), self.wording()
        names = [(row, name) for row, place in enumerate(places) for name in keys.names[place]]
        texts = denoiser.network.text.encode([wording.write(name) for _, name in names]).embeddings
        conditions = torch.cat([denoiser.neutral, texts])
        total = torch.zeros(len(names), *reading.latent_size, device=conditions.device)
        for timestep in timesteps:
            errors = denoiser.errors(conditions, (timestep,), samples=samples, mirrored=mirrored)[0]
            total += (errors[:1] - errors[1:]) / errors[0].mean().clamp(min=EPS) / len(timesteps)
        check_finite(total, "the errors hold")
        grid = reading.self_attention.grid
        smooth = self._complete(reading, resize_maps(total[None], grid))[0]
        rows = torch.tensor([row for row, _ in names], device=smooth.device)[:, None, None].expand_as(smooth)
        return torch.full((len(places), *grid), -torch.inf, device=smooth.device).scatter_reduce(0, rows, smooth, "amax")

    def _complete(self, reading: Reading, maps: Tensor) -> Tensor:
        """Each pixel's mean over those that it attends to, (pictures, channels, h, w)."""
        return reading.self_attention.sharpened(self.sharpen).complete(maps, hops=self.hops)


def _strongest(gains: Tensor, count: int) -> list[int]:
    """Places of the labels that come nearest to being the best somewhere, of (labels, h, w); among those that are, of most pixels."""
    flat = gains.flatten(1)
    lacks = (flat.amax(0) - flat).amin(1)
    won = torch.bincount(flat.argmax(0), minlength=len(flat)) / flat.shape[1]
    order = sorted(range(len(flat)), key=lambda place: (float(lacks[place]), -float(won[place])))
    return sorted(order[:count])


def _denoiser(reading: Reading) -> Denoiser:
    """The way back to the network.

    Raises:
        SettingsError: there is none.
    """
    if reading.denoiser is None:
        raise SettingsError(f"{DiffusionClassifier.name} asks the network again, which only works for pictures that are given, not drawn")
    return reading.denoiser
