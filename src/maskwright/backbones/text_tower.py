"""The text side of a backbone: tokens with character offsets, and their embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskwright.errors import VocabularyError

AT_ONCE = 16  # texts per pass of the encoder
REMEMBERED = 4096  # texts whose embeddings are kept


@dataclass(frozen=True, eq=False)
class TextEncoding:
    """Encoded texts.

    Attributes:
        embeddings: (texts, length, width), the last hidden states after the final norm.
        offsets: for each text the (start, end) characters of each token; (0, 0) for begin, end and padding.
        end: (texts,) int64 on the CPU, position of the end token.
    """

    embeddings: Tensor
    offsets: tuple[tuple[tuple[int, int], ...], ...]
    end: Tensor


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

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without begin and end."""
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)

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
        end = torch.tensor([row[2] for row in found])
        result = TextEncoding(torch.stack([row[0] for row in found]), tuple(row[1] for row in found), end)
        if len(self._memory) > REMEMBERED:
            self._memory.clear()
        return result

    def _remember(self, texts: list[str]) -> None:
        for text in texts:
            if (count := self.count_tokens(text)) > self.room:
                raise VocabularyError(f"{text[:60]!r} has {count} tokens, this model reads {self.room}: use a shorter label or prompt")
        encoded = self.tokenizer(
            texts, padding="max_length", max_length=self.length, truncation=True, return_offsets_mapping=True, return_tensors="pt"
        )
        embeddings = self.encoder(encoded.input_ids.to(self.device))[0]
        for row, text in enumerate(texts):
            offsets = tuple((int(a), int(b)) for a, b in encoded.offset_mapping[row])
            end = 1 + self.count_tokens(text)
            self._memory[text] = (embeddings[row], offsets, end)
