"""From a data set to a student: build a network, train it, write everything that who deploys it needs.

    DIR/student.json                 all about it, written last
    DIR/config.json, ...             the layout of transformers, labels.txt and README.md (folder.py)
    DIR/model.onnx                   the same network for onnxruntime
    DIR/curve.jsonl, DIR/curve.png   every step's loss, every epoch's figures
    DIR/checkpoint.safetensors       only until everything else is there

A folder with student.json and without a checkpoint is complete.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maskwright.backbones.devices import choose_device
from maskwright.datasets.masks import quote
from maskwright.errors import OutputError
from maskwright.exports.files import explained
from maskwright.exports.locking import alone_in
from maskwright.students.export import MODEL, Exported, export_onnx, refuse_missing
from maskwright.students.folder import RECORD, Provenance, write_student
from maskwright.students.network import build_student, class_names, load_network, try_out
from maskwright.students.settings import StudentSettings, side_for
from maskwright.students.source import WEIGHTS, find_checkpoint, read_json
from maskwright.students.speed import measure_speed
from maskwright.students.task import StudentTask
from maskwright.training.checkpoint import CHECKPOINT, read_head, refuse_differences
from maskwright.training.curve import CURVE, draw_curve
from maskwright.training.examples import ExampleSet
from maskwright.training.loop import Progress, TrainingSettings, train

BATCH = 16
# Random weights want large steps and many of them; what has learned from a million pictures would forget it.
FRESH: Mapping[str, Any] = {"rate": 1e-3, "epochs": 30}
LEARNED: Mapping[str, Any] = {"rate": 1e-4, "epochs": 10}


def suited_training(settings: StudentSettings, **given: Any) -> TrainingSettings:
    """Training settings for a student: those that are given and not None, over what suits random or learned weights.

    Raises:
        SettingsError: values that cannot be trained with.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    suited: dict[str, Any] = {"batch": BATCH, **(LEARNED if settings.checkpoint else FRESH), **chosen}
    return TrainingSettings(**suited)


class Distiller:
    """A student before and while it learns.

    Args:
        examples: the data set.
        settings: of the network.
        training: how it is trained; its `side` becomes the student's size. None for `suited_training`.
        device: "auto", "cpu", "cuda", ...
        offline: never touch the network.
        onnx: whether model.onnx is written.

    Attributes:
        network: on its device.
        side: shorter side in pixels at which it reads pictures.
        any_shape: whether it reads other shapes than squares.

    Raises:
        MissingExtraError: a package that will be needed is not installed.
        SettingsError: settings that cannot be used together.
        ModelError: a checkpoint that cannot be found or used.
        MaskwrightError: a first example that cannot be read.
    """

    def __init__(
        self, examples: ExampleSet, settings: StudentSettings | None = None, training: TrainingSettings | None = None, *,
        device: str = "auto", offline: bool = False, onnx: bool = True,
    ) -> None:  # fmt: skip
        refuse_missing(onnx=onnx)
        self.examples, self.settings, self.onnx = examples, settings or StudentSettings(), onnx
        place = choose_device(device)
        self.side = self.settings.size or side_for(min(examples.read(0).size))
        self.training = dataclasses.replace(training or suited_training(self.settings), side=self.side)
        self._source = find_checkpoint(self.settings.checkpoint, offline=offline) if self.settings.checkpoint else None
        self.network = build_student(self.settings, examples.names, seed=self.training.seed, offline=offline)
        self.any_shape = try_out(self.network, self.side)
        self.network.to(place)

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def kind(self) -> str:
        """Kind of network in the words of transformers: "segformer"."""
        return str(self.network.model.config.model_type)

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the weights beside training settings and examples; a checkpoint by its content, as folders move."""
        digest = hashlib.blake2b(digest_size=16)
        for path in sorted(self._source.glob(WEIGHTS)) if self._source else ():
            digest.update(path.read_bytes())
        shape = dataclasses.asdict(self.settings) | {"size": self.side, "checkpoint": digest.hexdigest() if self._source else ""}
        return {"student": shape}

    def run(self, out: Path, *, resume: bool = False) -> Iterator[Progress]:
        """Trains; a progress after every step and every epoch, none where the training is over already. Then the folder is finished.

        Everything is checked at once, and the work is done as the iterator is asked.

        Args:
            out: folder of the student, made if it is not there.
            resume: go on with the training that is there, if any; of a student that is complete, the files are written anew.

        Raises:
            SettingsError: too few examples; on resume, settings or examples that differ, named.
            OutputError: a folder with a student, without `resume`; with other files; or that cannot be written.
            MaskwrightError: while it runs, examples that cannot be read, or a loss that is no number.
        """
        if (out / RECORD).exists() and not (out / CHECKPOINT).exists():
            self._load(out, resume=resume)
            return iter(())
        task = StudentTask(self.side, self.any_shape)
        return train(self.network, task, self.examples, self.training, out, resume=resume, decisive=self.decisive)

    def finish(self, out: Path) -> Mapping[str, Any]:
        """Writes the trained student into its folder; then nothing is left of the training but its curve.

        Args:
            out: the folder that `run` was given; it must have come to its end.

        Returns:
            The content of student.json.

        Raises:
            ModelError: the network cannot be written as ONNX.
            OutputError: files cannot be written.
        """
        with alone_in(out, "trains in"):
            return self._finish(out)

    def _finish(self, out: Path) -> Mapping[str, Any]:
        checkpoint, device = out / CHECKPOINT, self.network.mean.device
        decisive = read_head(checkpoint)["decisive"] if checkpoint.exists() else read_json(out / RECORD)["decisive"]
        self.network.eval()
        draw_curve(out / CURVE)
        exported = self._export(out) if self.onnx else None
        self.network.to(device)
        speed = measure_speed(self.network, out / MODEL if exported else None, side=self.side)
        made = Provenance(self.examples, self.settings, self.training, self.side, self.any_shape, decisive)
        record = write_student(self.network, out, made, exported=exported, speed=speed)
        with explained(out, "choose another folder with --out"):
            checkpoint.unlink(missing_ok=True)  # last: until then the training can be resumed
        return record

    def _export(self, out: Path) -> Exported:
        names = class_names(self.examples.names)
        return export_onnx(self.network.cpu(), out / MODEL, side=self.side, names=names, any_shape=self.any_shape)

    def _load(self, out: Path, *, resume: bool) -> None:
        """Takes the weights of a student that is complete."""
        if not resume:
            raise OutputError(f"{quote(out)} holds a student already: choose another folder with --out")
        found = read_json(out / RECORD)["decisive"]
        count = min(found["examples"]["count"], len(self.examples))
        examples = self.examples.first(count)
        wanted = {
            **self.decisive, "training": dataclasses.asdict(self.training),
            "examples": {"count": len(examples), "digest": examples.digest},
        }  # fmt: skip
        refuse_differences(found, json.loads(json.dumps(wanted)), out)
        self.network.load_state_dict(load_network(out).state_dict())
