"""What every backbone offers; methods and segmenter know nothing else of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from maskwright.backbones.text_tower import TextTower
    from maskwright.readings.probe import Probe
    from maskwright.readings.reading import Reading


STEPS, GUIDANCE = 25, 7.5  # of drawing, where a model names none that suit it better


@dataclass(frozen=True)
class ModelInfo:
    """Facts about a loaded model.

    Attributes:
        name: what the user called it.
        source: hub id or folder.
        revision: commit, or "" when unknown.
        licence: of the weights, or "" when unknown.
        native: pixels a side at which it was trained.
        prediction: "epsilon" or "v_prediction".
        multiple: sides of pictures must be multiples of this.
        words: the only words it knows, or None when its vocabulary is open.
        objects: those of them that name things, not grounds or glue, synonyms joined by |; None when its vocabulary is open.
        advice: what to say to someone who uses other words.
        methods: settings that suit this model better than a method's own defaults, by method name.
        synthesis: what suits it when it draws: "plain" and "templates" (texts with {} for the label), "steps", "guidance",
            "side" (pixels of the pictures, where that is not `native`).
        clip: folder of the CLIP that knows its words, for the category filter; "" when none comes with it.
    """

    name: str
    source: str
    revision: str
    licence: str
    native: int
    prediction: str
    multiple: int
    words: tuple[str, ...] | None = None
    objects: tuple[str, ...] | None = None
    advice: str = ""
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    synthesis: Mapping[str, Any] = field(default_factory=dict)
    clip: str = ""


class Backbone(Protocol):
    """A frozen text-to-image model."""

    info: ModelInfo
    text: "TextTower"
    device: "torch.device"
    dtype: "torch.dtype"

    def encode_image(self, pixels: "Tensor") -> "Tensor":
        """(pictures, 3, H, W) in -1..1 to scaled latents (pictures, channels, h, w)."""
        ...

    def read(self, latents: "Tensor", probe: "Probe", *, condition: "Tensor", seed: int = 0) -> "Reading":
        """One pass over a batch, stopped after the last layer that the probe asks for.

        Args:
            latents: (pictures, channels, h, w).
            probe: what to read.
            condition: (pictures or 1, tokens, width) text embeddings.
            seed: of the noise; every picture of one size gets the same noise, so that neighbours do not matter.
        """
        ...

    def generate(
        self, prompts: Sequence[str], *, steps: int | None = None, guidance: float | None = None, seed: int = 0, side: int | None = None
    ) -> "Tensor":
        """Pictures for prompts, (prompts, 3, side, side) float32 in 0..1; picture n depends on seed + n only.

        Args:
            prompts: one a picture.
            steps: of the sampler; None for what suits the model (`ModelInfo.synthesis`), else 25.
            guidance: weight of classifier-free guidance, 1 for none; None for what suits the model, else 7.5.
            seed: of the first picture.
            side: of the pictures, in pixels; None for what suits the model, else its native one.
        """
        ...


class DrawingBackbone(Backbone, Protocol):
    """A backbone whose network can be asked one noisy step at a time: what drawing, and comparing words by denoising, need.

    Attributes:
        scheduler: a diffusers scheduler with `alphas_cumprod`; a fresh one of its kind and settings is made for each drawing.
        latent_shape: (channels, h, w) of a picture at the model's native size.
    """

    scheduler: Any
    latent_shape: tuple[int, int, int]

    def noised(self, latents: "Tensor", probe: "Probe", *, seed: int) -> "tuple[Tensor, Tensor]":
        """Noisy rows (pictures * repeats, channels, h, w) for a probe, and the timestep of each."""
        ...

    def predict(self, rows: "Tensor", timesteps: "Tensor", condition: "Tensor") -> "Tensor":
        """The network's prediction for noisy rows, of their shape."""
        ...

    def read_rows(self, rows: "Tensor", timesteps: "Tensor", condition: "Tensor", probe: "Probe") -> "tuple[Tensor, Reading]":
        """The same, and what was read on the way."""
        ...

    def decode(self, latents: "Tensor") -> "Tensor":
        """Scaled latents (pictures, channels, h, w) to pictures (pictures, 3, H, W) float32 in 0..1."""
        ...
