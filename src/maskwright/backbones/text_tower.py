"""The text side of a backbone: tokens with character offsets, and their embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskwright.errors import VocabularyError

AT_ONCE = 16  # texts per pass of the encoder
REMEMBERED = 2048  # texts whose embeddings are kept, half a gigabyte for SD 1.x in float32


@dataclass(frozen=True, eq=False)
class TextEncoding:
    """Encoded texts.

    Attributes:
        embeddings: (texts, length, width), the last hidden states after the final norm.
        offsets: for each text the (start, end) characters of each token; (0, 0) for begin, end and padding.
        ends: position of each text's first end token.
    """

    embeddings: Tensor
    offsets: tuple[tuple[tuple[int, int], ...], ...]
    ends: tuple[int, ...]


class TextTower:
    """Tokenizer and text encoder of a CLIP-conditioned model, with a memory of what was encoded.

    Args:
        tokenizer: a fast CLIP tokenizer.
        encoder: a CLIPTextModel.
        device: where it runs.
    """

    def __init__(self, tokenizer: Any, encoder: Any, device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = tokenizer, encoder, device
        self.length = min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings))
        self._memory: dict[str, tuple[Tensor, tuple[tuple[int, int], ...], int]] = {}

    def forget(self) -> None:
        """Forgets what was encoded: call it after changing the encoder's weights."""
        self._memory.clear()

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without begin and end."""
        return len(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    @property
    def room(self) -> int:
        """Tokens that a text may have, begin and end not counted."""
        return self.length - 2

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """Encodes texts, each padded to the model's length; texts seen before come from memory.

        Raises:
            VocabularyError: for a text that does not fit.
        """
        fresh = [text for text in dict.fromkeys(texts) if text not in self._memory]
        for first in range(0, len(fresh), AT_ONCE):
            self._remember(fresh[first : first + AT_ONCE])
        found = [self._memory[text] for text in texts]
        result = TextEncoding(torch.stack([row[0] for row in found]), tuple(row[1] for row in found), tuple(row[2] for row in found))
        if len(self._memory) > REMEMBERED:
            self.forget()
        return result

    def _remember(self, texts: list[str]) -> None:
        encoded = self.tokenizer(texts, padding="max_length", max_length=self.length, return_offsets_mapping=True, verbose=False)
        for text, tokens in zip(texts, encoded.input_ids, strict=True):
            if len(tokens) > self.length:
                count = len(tokens) - 2
                raise VocabularyError(f"{text[:60]!r} has {count} tokens, this model reads {self.room}: use a shorter label or prompt")
        embeddings = self.encoder(torch.tensor(encoded.input_ids, device=self.device))[0]
        for row, text in enumerate(texts):
            offsets = tuple((int(a), int(b)) for a, b in encoded.offset_mapping[row])
            self._memory[text] = (embeddings[row], offsets, sum(encoded.attention_mask[row]) - 1)
