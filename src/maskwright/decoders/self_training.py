"""A second round on real pictures that nobody has labelled (Ma et al., DiffusionSeg, arXiv 2303.09813).

A picture's target is the mask that AttentionCut finds in it, unless the trained decoder disagrees: where their IoU is under one half,
the decoder's own mask is taken instead.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from maskwright.decoders.features import FeatureReader
from maskwright.decoders.settings import DecoderSettings
from maskwright.decoders.task import upsample_all
from maskwright.discovery.discoverer import Discoverer
from maskwright.discovery.result import THRESHOLD, Discovery
from maskwright.discovery.writing import mask_picture, write_whole
from maskwright.errors import ImageError, SettingsError
from maskwright.exports.files import explained
from maskwright.images import Picture, find_pictures, resize
from maskwright.reader import Reader
from maskwright.training.examples import LABELS, Example, ExampleSet
from maskwright.vocabulary import Vocabulary

log = logging.getLogger("maskwright")
FOLDER, RECORD = "self-training", "self-training.json"
OBJECT = "object"  # what is in a picture, where the decoder reads without words

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SelfTrainingSettings:
    """How the second round is trained.

    Attributes:
        folder: of pictures; none of them may be measured on later.
        epochs: passes over the drawn examples and these pictures together.
        agreement: IoU of both masks from which on AttentionCut's is believed.
    """

    folder: Path
    epochs: int = 3
    agreement: float = 0.5

    def __post_init__(self) -> None:
        """Refuses what cannot be trained with."""
        if self.epochs < 1 or not 0 <= self.agreement <= 1:
            raise SettingsError(f"epochs and agreement are {self.epochs} and {self.agreement}: give 1 or more, and an IoU in 0..1")

    def refuse(self, settings: DecoderSettings) -> None:
        """Raises SettingsError for a decoder that finds no single object."""
        if settings.task != "saliency":
            raise SettingsError("self-training compares masks of the one object of a picture: use it with --task saliency")


class JoinedExamples:
    """Drawn examples, then pictures with pseudo-masks; validated on the drawn ones that validated before.

    Args:
        drawn: with the masks of the data set.
        made: with pseudo-masks; all of them are trained on.
    """

    def __init__(self, drawn: ExampleSet, made: ExampleSet) -> None:
        self.drawn, self.made = drawn, made

    def __len__(self) -> int:
        return len(self.drawn) + len(self.made)

    @property
    def digest(self) -> str:
        """Of both."""
        return f"{self.drawn.digest}+{self.made.digest}"

    def read(self, index: int) -> Example:
        """The example with this number; those with pseudo-masks come last."""
        count = len(self.drawn)
        return self.drawn.read(index) if index < count else self.made.read(index - count)

    def split(self, share: float, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Numbers to train on and numbers to validate on, both rising."""
        learned, held = self.drawn.split(share, seed)
        return (*learned, *range(len(self.drawn), len(self))), held

    def first(self, count: int) -> "JoinedExamples":
        """So many examples, all pseudo-masks among them."""
        return JoinedExamples(self.drawn.first(count - len(self.made)), self.made)


def identify_pictures(settings: SelfTrainingSettings) -> dict[str, Any]:
    """What decides the second round, as plain JSON: settings, how many pictures there are, and a digest of their names and lengths.

    Raises:
        ImageError: a folder without pictures.
    """
    paths = find_pictures([str(settings.folder)])
    names = "\0".join(f"{path.relative_to(settings.folder).as_posix()} {path.stat().st_size}" for path in paths)
    digest = hashlib.blake2b(names.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return {"pictures": len(paths), "digest": digest, "epochs": settings.epochs, "agreement": settings.agreement}


def make_pseudo_examples(
    reader: Reader, features: FeatureReader, network: nn.Module, settings: SelfTrainingSettings, folder: Path
) -> tuple[ExampleSet, dict[str, Any]]:
    """Writes the pictures, as small as the model reads them, with their pseudo-masks; done once for a training.

    Args:
        reader: the model.
        features: what the decoder is given.
        network: the decoder after its first round.
        settings: which pictures, and when masks agree.
        folder: of the result, made if it is not there; what an interrupted run left is made again.

    Returns:
        The examples; and how many "pictures" there are, for how many the decoder's own mask "replaced" AttentionCut's, and how many
        files were "unreadable" and left out with a warning.

    Raises:
        SettingsError: no picture could be read.
        OutputError: the files cannot be written.
    """
    record = folder / RECORD
    with explained(folder, "choose another folder with --out"):
        if not record.exists():
            shutil.rmtree(folder, ignore_errors=True)
            for place in ("images", "masks"):
                (folder / place).mkdir(parents=True)
            counts = _write_all(reader, features, network, settings, folder)
            write_whole(record, (json.dumps(counts) + "\n").encode())
        found: dict[str, Any] = json.loads(record.read_bytes())
    return ExampleSet.open(folder), found


def choose_mask(own: Mask, pseudo: Mask, *, agreement: float) -> tuple[Mask, bool]:
    """The mask to learn from, and whether it is the decoder's own.

    Args:
        own: (H, W) of the decoder.
        pseudo: (H, W) of AttentionCut.
        agreement: IoU from which on the pseudo-mask is taken; two empty masks agree.
    """
    union = np.count_nonzero(own | pseudo)
    agree = union == 0 or np.count_nonzero(own & pseudo) / union >= agreement
    return (pseudo, False) if agree else (own, True)


def _write_all(
    reader: Reader, features: FeatureReader, network: nn.Module, settings: SelfTrainingSettings, folder: Path
) -> dict[str, int]:  # fmt: skip
    discoverer = Discoverer(reader.backbone, seed=reader.seed, batch=reader.batch)
    competing = Vocabulary(features.labels) if features.labels else None
    paths = find_pictures([str(settings.folder)])
    numbers: dict[str, int] = {}  # of the words, as labels
    count = replaced = 0
    network.eval()
    for pictures in reader.batches(_open_all(paths, reader), reader.size):
        own = predict(features, network, pictures)
        discovered = discoverer.discover_many(pictures, competing, match=competing is not None)
        for picture, mask, found in zip(pictures, own, discovered, strict=True):
            target, is_own = choose_mask(mask, found.mask, agreement=settings.agreement)
            number = numbers.setdefault(_name(found, features.settings), len(numbers) + 1)
            Image.fromarray(picture.pixels).save(folder / "images" / f"{count:06d}.png")
            mask_picture((target * number).astype(np.uint8)).save(folder / "masks" / f"{count:06d}.png")
            count, replaced = count + 1, replaced + is_own
    if not count:
        raise SettingsError(f"no picture in {str(settings.folder)!r} can be read: give another folder with --self-train")
    write_whole(folder / LABELS, "".join(f"{name}\n" for name in numbers).encode())
    return {"pictures": count, "replaced": replaced, "unreadable": len(paths) - count}


def predict(features: FeatureReader, network: nn.Module, pictures: Sequence[Picture]) -> list[Mask]:
    """The decoder's masks of pictures of one size, (H, W) each."""
    with torch.no_grad():
        probability = upsample_all(network(features.read(pictures)).sigmoid(), pictures[0].size)[:, 0]
    return list((probability > THRESHOLD).cpu().numpy())


def _open_all(paths: Sequence[Path], reader: Reader) -> Iterator[Picture]:
    """The pictures that can be opened, at the size at which the model reads them."""
    for path in paths:
        try:
            picture = Picture.open(path)
        except ImageError as error:
            log.warning("left out of self-training: %s", error)
            continue
        yield Picture(resize(picture, reader.size(picture)), picture.name, picture.source)


def _name(found: Discovery, settings: DecoderSettings) -> str:
    """What the label of a picture's object is called: the word that it is read under."""
    return found.words[0] if settings.prior == "match" else OBJECT
