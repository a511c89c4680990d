"""A decoder at work on pictures."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from maskwright.decoders.decoder import Decoder
from maskwright.decoders.features import FeatureReader
from maskwright.images import Picture
from maskwright.reader import Reader
from maskwright.vocabulary import Label


class DecoderPredictor:
    """Probabilities of pictures by a decoder on the model that it was trained on.

    Args:
        reader: the loaded model.
        decoder: stays as it is and where it is.
        labels: the words that compete under the prior "match", where the decoder names none itself.

    Raises:
        ModelError: the decoder was trained on another model.
    """

    def __init__(self, reader: Reader, decoder: Decoder, *, labels: Sequence[Label] = ()) -> None:
        self.features = FeatureReader(reader, decoder.settings, labels=decoder.labels or labels)
        decoder.refuse_model(self.features.model)
        self.reader, self.decoder = reader, decoder
        self._network = copy.deepcopy(decoder.network).to(reader.backbone.device)

    @torch.inference_mode()
    def probabilities(self, pictures: Sequence[Picture], *, words: Sequence[tuple[str, ...]] | None = None) -> Tensor:
        """How likely each cell of the decoder's grid is foreground, or each of the labels.

        Args:
            pictures: at least one, all read at one size.
            words: what is in each picture, where that is known; see `FeatureReader.read`.

        Returns:
            (pictures, outputs, h, w) float32: one output for saliency, by a sigmoid; for a semantic decoder background and then each
            label, by a softmax.

        Raises:
            SettingsError: as `FeatureReader.read`.
        """
        logits: Tensor = self._network(self.features.read(pictures, words=words))
        return logits.sigmoid() if self.decoder.settings.task == "saliency" else logits.softmax(1)
