"""Which of many words fits a picture best, told by the model that draws pictures from words.

Two measures stand behind each other. They were chosen on the first 40 scenes of the bundled tuning split: 48 object words compete, one to
three of them are in the scene (a blind guess is right in 4 %), bundled model of 233,600 samples, one core.

| measure | the word is in the scene | seconds a picture |
|---|---|---|
| cross-attention under a shared reading, peak | 50 % | 0.02 |
| the same, mean of the highest 5 % of pixels | 58 % | 0.02 |
| the same, peak over the word's own mean | 3 % | 0.02 |
| peak under one prompt that names all words | 23 % | 0.02 |
| denoising error under each word's own prompt, timestep 500 | 68 % | 0.8 |
| the same, timesteps 300 and 500 | 70 % | 1.7 |
| the eight words of most attention, then their denoising errors at 300 and 500 | 70 % | 0.35 |

The last is taken. Attention is nearly free and has a word of the scene among its first eight in 95 %; the denoising error (the "diffusion
classifier" of Li et al., "Your Diffusion Model is Secretly a Zero-Shot Classifier", arXiv 2303.16203) chooses better among them. On the
next 120 scenes, with the weights of 376,000 samples, attention alone is right in 45 % and both together in 78 % (`python
benchmarks/matching.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.backbones.contract import DrawingBackbone
from maskwright.errors import SettingsError
from maskwright.readings.denoising import Denoiser
from maskwright.readings.probe import Probe, Select
from maskwright.text.planning import plan_text
from maskwright.text.wording import Wording
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class MatchSettings:
    """How words are compared.

    Attributes:
        shortlist: so many words of most attention are compared by their denoising errors.
        attended: timesteps at which attention is read.
        share: of the pixels that attend most to a word, whose mean is its strength.
        timesteps: at which denoising errors are measured and averaged.
    """

    shortlist: int = 8
    attended: tuple[int, ...] = (100,)
    share: float = 0.05
    timesteps: tuple[int, ...] = (300, 500)

    def __post_init__(self) -> None:
        """Refuses what cannot be compared."""
        if self.shortlist < 1 or not 0 < self.share <= 1:
            raise SettingsError(f"shortlist is 1 or more and share in 0..1, not {self.shortlist} and {self.share}")
        Probe(timesteps=self.attended)  # refuses timesteps that there are not
        Probe(timesteps=self.timesteps)


def best_words(
    backbone: DrawingBackbone, latents: Tensor, vocabulary: Vocabulary, wording: Wording, *, seed: int = 0, chunk: int = 8,
    settings: MatchSettings | None = None,
) -> list[int]:  # fmt: skip
    """For each picture the place of the label that fits it best.

    Args:
        backbone: the model.
        latents: (pictures, channels, h, w).
        vocabulary: the labels that compete, whether marked as background or not.
        wording: how a label becomes a prompt.
        seed: of the noise, which all words and pictures share.
        chunk: rows in one call of the U-Net where words are its batch.
        settings: None for the defaults.
    """
    settings = settings or MatchSettings()
    everyone = list(range(len(vocabulary)))
    shortlists = [everyone] * len(latents)
    if len(everyone) > settings.shortlist:
        strength = attention_strength(backbone, latents, vocabulary, wording, seed=seed, settings=settings)
        shortlists = strength.topk(settings.shortlist, 1).indices.tolist()
    if settings.shortlist == 1 or len(everyone) == 1:
        return [places[0] for places in shortlists]
    conditions = backbone.text.encode([wording.write(label.name) for label in vocabulary]).embeddings
    best = []
    for row, places in enumerate(shortlists):
        one = latents[row : row + 1]
        errors = denoising_errors(backbone, one, conditions[places], settings.timesteps, seed=seed, chunk=chunk)
        best.append(places[int(errors.argmin())])
    return best


@torch.inference_mode()
def attention_strength(
    backbone: DrawingBackbone, latents: Tensor, vocabulary: Vocabulary, wording: Wording, *, seed: int = 0,
    settings: MatchSettings | None = None,
) -> Tensor:  # fmt: skip
    """How much the pixels that attend most to each label do so: (pictures, labels) float32, arguments as for `best_words`.

    One reading under the neutral prompt, softmax of each label's own prompt, mean over the layers of the finest grid that has any.
    """
    settings = settings or MatchSettings()
    plan = plan_text(backbone.text, vocabulary, wording, "shared")
    probe = Probe(timesteps=settings.attended, cross=Select(factors="finest"))
    reading = backbone.read(latents, probe, condition=plan.passes[0].condition, seed=seed)
    maps = reading.cross_attention.maps(plan.keys)[0].maps.flatten(2)  # pictures labels pixels
    return maps.topk(max(1, round(settings.share * maps.shape[-1])), -1).values.mean(-1)


def denoising_errors(
    backbone: DrawingBackbone, latents: Tensor, conditions: Tensor, timesteps: Sequence[int], *, seed: int = 0, chunk: int = 8
) -> Tensor:
    """How far the network misses its own target on a picture, under each of several texts.

    Args:
        backbone: the model.
        latents: (1, channels, h, w).
        conditions: (texts, tokens, width).
        timesteps: the picture is noised to each of these.
        seed: of the noise, which is the same under every text.
        chunk: rows in one call of the U-Net.

    Returns:
        (texts,) float32, the mean squared error over timesteps, channels and pixels.
    """
    return Denoiser(backbone, latents, seed).errors(conditions, timesteps, chunk=chunk)[0].mean((-2, -1))
