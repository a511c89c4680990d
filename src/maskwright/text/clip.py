"""What the category filter asks of CLIP: how well texts fit a picture, and features of single words."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from maskwright.errors import ModelError
from maskwright.text.checkpoints import CLIP, Checkpoint, checked, load_checkpoint

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[np.float32]
CHUNK = 256  # texts a pass
REMEMBERED = 4096  # texts whose features are kept: a vocabulary is asked for again with every picture
LONGEST_STRIP = 8  # sides; CLIP resizes the short side and crops the middle, so a 1 x 9999 picture would become gigabytes


class Clip:
    """A CLIP model that answers with numpy arrays. Not for several threads at once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Wraps a loaded checkpoint of the family CLIP."""
        self.checkpoint = checkpoint
        self._prompts: dict[str, Array] = {}
        self._words: dict[str, Array] = {}

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str | Path | None = None,
        *,
        device: str = "cpu",
        offline: bool = False,
        revision: str | None = None,
    ) -> "Clip":
        """Loads from a folder or the hub; None is openai/clip-vit-large-patch14. Raises ModelError."""
        return cls(load_checkpoint(CLIP, folder_or_id, device=device, offline=offline, revision=revision))

    def called(self, source: str) -> "Clip":
        """The same model under the name that a result shall tell of it: that of the model that it came with."""
        return Clip(dataclasses.replace(self.checkpoint, source=source))

    @property
    def ratio(self) -> float | None:
        """What the ratio of the category filter has to be for this model, if it says so.

        Raises:
            ModelError: what it says is no number above 0 and at most 1.
        """
        told = self.checkpoint.facts.get("ratio")
        if told is None:
            return None
        if isinstance(told, bool) or not isinstance(told, int | float) or not 0 < told <= 1:
            raise ModelError(f"maskwright.json of {self.checkpoint.source} has the ratio {told!r}: write a number above 0 and at most 1")
        return float(told)

    def similarities(self, picture: npt.NDArray[np.uint8], texts: Sequence[str]) -> Array:
        """Cosines of CLIP's image and text embeddings, before the logit scale.

        Args:
            picture: (H, W, 3) uint8 RGB.
            texts: T prompts.

        Returns:
            (T,) float32 in -1..1.
        """
        import torch

        model = self.checkpoint.model
        with torch.inference_mode():
            pixels = self.checkpoint.pixel_values([_middle(checked(picture))])
            pooled = model.vision_model(pixel_values=pixels).pooler_output.flatten(1)  # (1, width); of a ResNet (1, width, 1, 1)
            image = model.visual_projection(pooled)  # (1, d)
        return cosines(self._recall(texts, self._prompts, self._embed), image.cpu().numpy())[:, 0]

    def word_features(self, words: Sequence[str]) -> Array:
        """The text encoder's last hidden states, averaged over each word's own tokens, unprojected.

        Each word is encoded alone. Start, end and padding are left out. Only directions matter: compare by `cosines`.

        Returns:
            (len(words), width) float32, for a text without tokens zeros.
        """
        return self._recall(words, self._words, self._average)

    def _recall(self, texts: Sequence[str], memory: dict[str, Array], encode: Callable[[Sequence[str]], Array]) -> Array:
        """Features of texts, (T, d); only those not met before are encoded."""
        if len(memory) + len(texts) > REMEMBERED:
            memory.clear()
        new = [text for text in dict.fromkeys(texts) if text not in memory]
        for start in range(0, len(new), CHUNK):
            chunk = new[start : start + CHUNK]
            memory.update(zip(chunk, encode(chunk), strict=True))
        return np.stack([memory[text] for text in texts])

    def _embed(self, texts: Sequence[str]) -> Array:
        """Projected embeddings of whole texts, (T, d)."""
        import torch

        with torch.inference_mode():
            _, pooled, _ = self._encode(texts)
            embedded: torch.Tensor = self.checkpoint.model.text_projection(pooled)
        return embedded.cpu().numpy()

    def _average(self, texts: Sequence[str]) -> Array:
        """Mean last hidden states over the tokens that stand for characters, (T, width)."""
        import torch

        with torch.inference_mode():
            states, _, own = self._encode(texts)
            total = (states * own[..., None]).sum(dim=1)
            mean: torch.Tensor = total / own.sum(dim=1, keepdim=True).clamp(min=1)
        return mean.cpu().numpy()

    def _encode(self, texts: Sequence[str]) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """Last hidden states (T, tokens, width), pooled states (T, width), and where the text's own tokens are (T, tokens)."""
        checkpoint = self.checkpoint
        tokens = checkpoint.tokenizer(
            list(texts),
            padding=True,
            padding_side="right",  # CLIP's mask is causal: what follows the end token changes nothing
            truncation=True,
            max_length=checkpoint.model.config.text_config.max_position_embeddings,
            return_offsets_mapping=True,
            return_tensors="pt",
        ).to(checkpoint.device)
        # by offsets, not by ids: CLIP's padding, unknown and end tokens share one id
        spans = tokens["offset_mapping"]  # (T, tokens, 2): first character and one past the last
        out = checkpoint.model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return out.last_hidden_state, out.pooler_output, spans[..., 1] > spans[..., 0]


def cosines(a: Array, b: Array) -> Array:
    """Cosines of every row of a (A, d) with every row of b (B, d): (A, B); 0 where a row is all zeros."""
    unit_a, unit_b = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (a, b))
    return np.asarray(unit_a @ unit_b.T, dtype=np.float32)


def _middle(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The middle of a very long picture: what CLIP's own crop keeps lies well inside it."""
    height, width, _ = picture.shape
    most = LONGEST_STRIP * min(height, width)
    top, left = max(0, (height - most) // 2), max(0, (width - most) // 2)
    return picture[top : top + most, left : left + most]
