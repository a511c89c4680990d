"""Captions by BLIP, from nothing or from the beginning of a sentence."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from maskwright.errors import SettingsError
from maskwright.text.checkpoints import BLIP, Checkpoint, checked, load_checkpoint

if TYPE_CHECKING:
    import torch

Pixels = npt.NDArray[np.uint8]
CHUNK = 8  # pictures a pass
REMEMBERED = 8  # pictures whose encoding is kept: a prompt for each label asks about the same picture again and again


class Captioner:
    """A BLIP model that captions greedily: the same picture and prefix give the same words. Not for several threads at once."""

    def __init__(self, checkpoint: Checkpoint, *, max_new_tokens: int = 20) -> None:
        """Wraps a loaded checkpoint of the family BLIP.

        Args:
            checkpoint: what `load_checkpoint` gave.
            max_new_tokens: at most so many tokens are written after the prefix.

        Raises:
            SettingsError: max_new_tokens is below 1 or more than the model's positions.
        """
        self.positions = int(checkpoint.model.config.text_config.max_position_embeddings)
        if not 1 <= max_new_tokens < self.positions:
            raise SettingsError(f"max_new_tokens is {max_new_tokens}: choose a number from 1 to {self.positions - 1}")
        self.checkpoint = checkpoint
        self.max_new_tokens = max_new_tokens
        self._seen: dict[str, torch.Tensor] = {}

    @property
    def source(self) -> str:
        """Which model writes, for the record of a result."""
        return f"{self.checkpoint.source}@{self.checkpoint.revision}" if self.checkpoint.revision else str(self.checkpoint.source)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str | Path | None = None,
        *,
        device: str = "cpu",
        offline: bool = False,
        revision: str | None = None,
        max_new_tokens: int = 20,
    ) -> "Captioner":
        """Loads from a folder or the hub; None is Salesforce/blip-image-captioning-large. Raises ModelError."""
        checkpoint = load_checkpoint(BLIP, folder_or_id, device=device, offline=offline, revision=revision)
        return cls(checkpoint, max_new_tokens=max_new_tokens)

    def caption(self, pictures: Sequence[Pixels], *, prefix: str = "") -> list[str]:
        """One caption for each picture.

        Args:
            pictures: each (H, W, 3) uint8 RGB, of any size.
            prefix: how every caption begins; it is kept as written, though the model reads it in lower case.

        Returns:
            As many captions as pictures. One can equal the prefix, when the model adds nothing.

        Raises:
            ImageError: a picture of another shape or type.
            SettingsError: the prefix leaves no room for a caption.
        """
        chunks = (pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK))
        return [caption for chunk in chunks for caption in self._continue(chunk, prefix)]

    def continue_prompt(self, picture: Pixels, prefix: str) -> str:
        """The prefix with the model's continuation, for one picture (H, W, 3) uint8 RGB. Raises as `caption` does."""
        return self.caption([picture], prefix=prefix)[0]

    def _continue(self, pictures: Sequence[Pixels], prefix: str) -> list[str]:
        """Writes on from BLIP's start token and the prefix, as BlipForConditionalGeneration.generate does for an image."""
        import torch

        model, tokenizer = self.checkpoint.model, self.checkpoint.tokenizer
        text = model.config.text_config
        given: list[int] = tokenizer(prefix, add_special_tokens=False)["input_ids"]
        if (room := self.positions - 1 - self.max_new_tokens) < len(given):
            raise SettingsError(f"the caption prefix '{prefix[:30]}...' has {len(given)} tokens: shorten it to {room} at most")
        with torch.inference_mode():
            seen = self._see(pictures)
            start = torch.tensor([[text.bos_token_id, *given]] * len(pictures), device=seen.device)  # (B, 1 + prefix)
            written = model.text_decoder.generate(
                input_ids=start,
                attention_mask=torch.ones_like(start),
                encoder_hidden_states=seen,
                encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device),
                eos_token_id=text.sep_token_id,  # BLIP ends with BERT's separator
                pad_token_id=text.pad_token_id,
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                num_beams=1,
            )
        head = self._decode(given)
        gap = "" if head else " "  # nothing of the prefix was known to the tokenizer
        tails = (gap + self._decode(row[1:]).removeprefix(head) for row in written.tolist())
        return [join(prefix, tail) for tail in tails]

    def _decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text without special tokens. WordPiece joins word by word, so a beginning's text begins the whole's text."""
        text: str = self.checkpoint.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _see(self, pictures: Sequence[Pixels]) -> "torch.Tensor":
        """BLIP's image encoding of each picture, (B, patches + 1, width). Pictures met lately are not encoded again."""
        import torch

        keys = [_fingerprint(checked(picture)) for picture in pictures]
        new = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in self._seen}
        if new:
            pixels = self.checkpoint.pixel_values(list(new.values()))
            states = self.checkpoint.model.vision_model(pixel_values=pixels).last_hidden_state
            self._seen.update(zip(new, states, strict=True))
        seen = torch.stack([self._seen[key] for key in keys])
        for key in list(self._seen)[:-REMEMBERED]:
            del self._seen[key]
        return seen


def join(prefix: str, tail: str) -> str:
    """Prefix and continuation, with no space doubled; a tail without a space of its own goes on with the prefix's last word."""
    if not prefix or prefix[-1].isspace():
        tail = tail.lstrip()
    return (prefix + tail).rstrip() if tail.strip() else prefix


def _fingerprint(picture: Pixels) -> str:
    """The same for equal pictures only."""
    return f"{picture.shape} {hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).hexdigest()}"
