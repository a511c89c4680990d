"""Training a decoder: frozen features of drawn pairs, a small network, one round or two.

What stands in the folder at the end:

    DIR/decoder.safetensors, DIR/decoder.json    the decoder, and how it was trained
    DIR/README.md                                the same in words
    DIR/curve.jsonl, DIR/curve.png               every step's loss, every epoch's figures
    DIR/self-training/                           curve of the second round, if there was one
    DIR/checkpoint.safetensors                   only until the training is over
"""

import dataclasses
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maskwright.datasets.masks import quote
from maskwright.decoders.card import write_card
from maskwright.decoders.decoder import STEM, Decoder, new_network, outputs_of
from maskwright.decoders.features import FeatureReader
from maskwright.decoders.self_training import FOLDER, JoinedExamples, SelfTrainingSettings, identify_pictures, make_pseudo_examples
from maskwright.decoders.settings import DecoderSettings
from maskwright.decoders.task import DecoderTask
from maskwright.discovery.writing import write_whole
from maskwright.errors import MissingExtraError, OutputError
from maskwright.exports.files import explained
from maskwright.exports.locking import alone_in
from maskwright.reader import Reader
from maskwright.record import plain
from maskwright.training.checkpoint import CHECKPOINT, refuse_differences
from maskwright.training.curve import CURVE, draw_curve, read_curve
from maskwright.training.examples import ExampleSet
from maskwright.training.loop import Progress, TrainingSettings, claim, train

log = logging.getLogger("maskwright")
SECOND = 2  # round of self-training


class DecoderTraining:
    """One training of a decoder, which may have begun in an earlier run.

    Args:
        reader: the frozen model; `reader.batch` pictures are read at a time, and its seed is that of the noise.
        examples: what it learns from.
        out: folder of the decoder, new or with a training to go on with.
        settings: of the decoder.
        training: of the loop; `side` None becomes the model's native side.
        self_training: a second round on pictures without masks, None for none.
        resume: go on with the training that is in the folder, if any.

    Attributes:
        examples: those that are trained on, fewer than there are now where the data set has grown since the training began.
        is_over: whether an earlier run has finished it.

    Raises:
        SettingsError: too few examples, or a second round for classes.
        OutputError: a folder that holds something else, or a training without `resume`.
    """

    def __init__(
        self, reader: Reader, examples: ExampleSet, out: Path, *, settings: DecoderSettings, training: TrainingSettings,
        self_training: SelfTrainingSettings | None = None, resume: bool = False,
    ) -> None:  # fmt: skip
        self.reader, self.out, self.settings, self.resume = reader, out, settings, resume
        self.training = dataclasses.replace(training, side=training.side or reader.backbone.info.native)
        self.self_training = self_training
        if self_training is not None:
            self_training.refuse(settings)
        self.head = begun(out, resume=resume)
        self.is_over = self.head is not None and is_over(out)
        count = None if self.head is None else self.head["examples"]["count"]
        self.examples = examples if count is None or count >= len(examples) else examples.first(count)
        competing = examples.labels if settings.prior == "match" or settings.task == "semantic" else ()
        self.labels = tuple(competing)
        self.features = FeatureReader(reader, settings, labels=self.labels)
        self.network = new_network(settings, self.features.channels, labels=self.labels, seed=training.seed).to(reader.backbone.device)
        self._task = DecoderTask(self.features, classes=outputs_of(settings, self.labels))
        self._replaced: Mapping[str, Any] | None = None

    @property
    def decisive(self) -> dict[str, Any]:
        """Plain JSON values that decide the decoder beside the loop's settings and the examples."""
        pictures = None if self.self_training is None else identify_pictures(self.self_training)
        return {
            "decoder": dataclasses.asdict(self.settings), "model": self.features.model, "noise": self.reader.seed,
            "dtype": str(self.reader.backbone.dtype).removeprefix("torch."), "self_training": pictures,
        }  # fmt: skip

    @property
    def figures(self) -> dict[str, float | None]:
        """Validation figures of the decoder that stands in the folder, by name."""
        return dict(Decoder.load(self.out).training.get("figures", {}))

    def run(self) -> Iterator[Progress]:
        """Trains; when it ends, the folder holds the decoder. A training that was over already gives no progress.

        Raises:
            SettingsError: settings or examples that differ from those of the training that is there, named; a loss that is no number.
            MaskwrightError: examples or pictures that cannot be read, or files that cannot be written.
        """
        if self.is_over:
            refuse_differences(self.head or {}, {**self.decisive, **self._examples_and_settings()}, self.out)
            self._clean()
            return
        with alone_in(self.out, "trains in"):  # between the rounds nobody holds the curve's lock
            yield from train(
                self.network, self._task, self.examples, self.training, self.out, resume=self.resume, decisive=self.decisive
            )  # fmt: skip
            if self.self_training is not None:
                yield from self._second_round(self.self_training)
            self._finish()

    def _second_round(self, settings: SelfTrainingSettings) -> Iterator[Progress]:
        """Trains on, with the pictures that have no masks of their own."""
        folder = self.out / FOLDER
        made, self._replaced = make_pseudo_examples(self.reader, self.features, self.network, settings, folder)
        joined = JoinedExamples(self.examples, made)
        training = dataclasses.replace(self.training, epochs=settings.epochs)
        rounds = train(self.network, self._task, joined, training, folder / "round", resume=True, decisive=self.decisive)
        for progress in rounds:
            yield dataclasses.replace(progress, round=SECOND)

    def _examples_and_settings(self) -> dict[str, Any]:
        examples = {"count": len(self.examples), "digest": self.examples.digest}
        return {"training": dataclasses.asdict(self.training), "examples": examples}

    def _finish(self) -> None:
        """Writes the decoder, then what tells of it, and removes what only a training needs."""
        curves = [self.out / CURVE]
        if self.self_training is not None:
            curves.append(self.out / FOLDER / CURVE)
            with explained(self.out, "choose another folder with --out"):
                write_whole(curves[-1], (self.out / FOLDER / "round" / CURVE).read_bytes())
        epochs = [line for line in read_curve(curves[-1]) if "validation" in line]
        learned, held = self.examples.split(self.training.validation, self.training.seed)
        record = {
            "figures": epochs[-1]["validation"], "trained_on": len(learned), "validated_on": len(held),
            "data_set": self.examples.folder.resolve().name, "origin": self.examples.origin, "self_training": self._replaced,
            "decisive": {**self.decisive, **self._examples_and_settings()},
        }  # fmt: skip
        decoder = Decoder(self.settings, self.labels, self.network, self.features.model, plain(record))
        decoder.save(self.out)
        try:
            for curve in curves:
                draw_curve(curve)
        except MissingExtraError as error:
            log.warning("no picture of the curve: %s", error)
        write_card(decoder, self.out)
        with explained(self.out, "choose another folder with --out"):
            self._clean()

    def _clean(self) -> None:
        """Without its checkpoint a training is over, so that goes first; whatever stops the rest, the next --resume does it."""
        (self.out / CHECKPOINT).unlink(missing_ok=True)
        for place in ("round", "images", "masks"):
            shutil.rmtree(self.out / FOLDER / place, ignore_errors=True)


def begun(out: Path, *, resume: bool) -> dict[str, Any] | None:
    """What decided the training that a folder holds, None where nothing has begun. Changes nothing.

    Raises:
        OutputError: a training or a decoder, without `resume`; or other files.
    """
    if is_over(out):
        if resume:
            found: dict[str, Any] = dict(Decoder.load(out).training.get("decisive", {}))
            if found:
                return found
        raise OutputError(f"{quote(out)} holds a decoder already: choose another folder with --out")
    head = claim(out, resume=resume)
    return None if head is None else head["decisive"]


def is_over(out: Path) -> bool:
    """Whether a folder holds a decoder whose training is over."""
    return (out / f"{STEM}.json").exists() and not (out / CHECKPOINT).exists()

