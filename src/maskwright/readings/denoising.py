"""How far a network misses its own target under each of several texts, pixel by pixel.

The evidence of the diffusion classifier (Li et al., "Your Diffusion Model is Secretly a Zero-Shot Classifier", arXiv 2303.16203): the text
that fits a picture lets the network remove noise from it best. Unlike a reading, it takes passes of its own for every text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from maskwright.readings.probe import Probe

AT_ONCE = 16  # rows in one call of the network


class Network(Protocol):
    """What is needed of a backbone (`backbones.contract.DrawingBackbone`)."""

    info: Any
    text: Any
    scheduler: Any

    def noised(self, latents: Tensor, probe: Probe, *, seed: int) -> tuple[Tensor, Tensor]:
        """Noisy rows, and the timestep of each."""
        ...

    def predict(self, rows: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """The network's answer to noisy rows."""
        ...


@dataclass(frozen=True, eq=False)
class Denoiser:
    """Asks a network again about pictures that were read.

    Attributes:
        network: the model.
        latents: (pictures, channels, h, w) of the clean pictures.
        seed: of the noise, which is the same under every text and for every picture.
    """

    network: Network
    latents: Tensor
    seed: int = 0

    def picture(self, index: int) -> "Denoiser":
        """The same for one picture."""
        return replace(self, latents=self.latents[index : index + 1])

    @property
    def neutral(self) -> Tensor:
        """The condition of the empty text, (1, tokens, width)."""
        condition: Tensor = self.network.text.encode([""]).embeddings
        return condition

    @torch.inference_mode()
    def errors(
        self, conditions: Tensor, timesteps: Sequence[int], *, samples: int = 1, mirrored: bool = False, chunk: int = AT_ONCE
    ) -> Tensor:
        """Squared errors under each text.

        Args:
            conditions: (texts, tokens, width).
            timesteps: the pictures are noised to each of these.
            samples: noise samples per timestep.
            mirrored: take each noise sample with its sign changed, too: twice the rows, whose chances cancel in part (antithetic sampling).
            chunk: rows in one call of the network.

        Returns:
            (pictures, texts, h, w) float32, the mean over channels, timesteps and samples.
        """
        probe = Probe(timesteps=tuple(timesteps), samples=samples)
        found = []
        for row in range(len(self.latents)):
            rows, steps = self.network.noised(self.latents[row : row + 1], probe, seed=self.seed)
            if mirrored:
                rows, steps = torch.cat([rows, self._mirror(row, rows, steps)]), steps.repeat(2)
            found.append(self._of_rows(rows, steps, self._target(row, rows, steps), conditions, chunk))
        return torch.stack(found)

    def _of_rows(self, rows: Tensor, steps: Tensor, target: Tensor, conditions: Tensor, chunk: int) -> Tensor:
        """(texts, h, w) of one picture; a call holds some texts with all rows, or some rows of one text."""
        total = torch.zeros(len(conditions), *rows.shape[-2:], device=rows.device)
        tasks = [(text, place) for text in range(len(conditions)) for place in range(len(rows))]
        for first in range(0, len(tasks), chunk):
            texts, places = (list(part) for part in zip(*tasks[first : first + chunk], strict=True))
            predicted = self.network.predict(rows[places], steps[places], conditions[texts])
            errors = (predicted.float() - target[places]).square().mean(1)
            total.index_add_(0, torch.tensor(texts, device=rows.device), errors)
        return total / len(rows)

    def _signal(self, steps: Tensor) -> Tensor:
        """How much of the clean picture is in noisy rows of these timesteps, (rows, 1, 1, 1) float32."""
        signal: Tensor = self.network.scheduler.alphas_cumprod.to(steps.device)[steps].float().sqrt()[:, None, None, None]
        return signal

    def _mirror(self, picture: int, rows: Tensor, steps: Tensor) -> Tensor:
        """The rows with their noise subtracted where it was added."""
        clean = self._signal(steps) * self.latents[picture : picture + 1].float()
        return (2 * clean - rows.float()).to(rows.dtype)

    def _target(self, picture: int, rows: Tensor, steps: Tensor) -> Tensor:
        """What the network was trained to answer to noisy rows, float32: the noise, the picture, or their velocity."""
        signal = self._signal(steps)
        spread = (1 - signal**2).sqrt()
        clean = self.latents[picture : picture + 1].float()
        noise = (rows.float() - signal * clean) / spread
        if self.network.info.prediction == "v_prediction":
            return signal * noise - spread * clean
        return clean.expand_as(noise) if self.network.info.prediction == "sample" else noise
