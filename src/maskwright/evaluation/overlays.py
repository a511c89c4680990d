"""Overlays of the pictures that a report shows, the best, middle and worst ones: made after the run, when these are known."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskwright.evaluation.outcomes import Outcome
from maskwright.evaluation.report.pictures import FOLDER, choose_pictures, overlay_path, truth_path
from maskwright.evaluation.run_folder import RunFolder
from maskwright.evaluation.runner import Runner
from maskwright.evaluation.statistics import to_nearest
from maskwright.evaluation.summary import summarise
from maskwright.evaluation.task import Task, Truth
from maskwright.exports.files import write_files
from maskwright.images import Picture
from maskwright.record import Record
from maskwright.segmentation import Segmentation
from maskwright.vocabulary import Label, Vocabulary


def wanted_overlays(runner: Runner, folder: RunFolder, *, each: int = 3) -> dict[int, set[str]]:
    """The pictures to draw, by their number, and the methods whose results are wanted of each; what is there already is left out.

    Args:
        runner: of the run.
        folder: with all its lines.
        each: so many of the best, middle and worst pictures of each method.
    """
    numbers = {item.name: number for number, item in enumerate(runner.dataset.items)}
    wanted: dict[int, set[str]] = {}
    for key, method in summarise(folder.evaluation, folder.lines, draws=1)["methods"].items():
        failed = {one["picture"] for one in method["failed"]}
        for shown in choose_pictures(method["pictures"], each=each) if each else ():
            if shown.name not in failed and not overlay_path(folder.path / FOLDER, shown.name, key).exists():
                wanted.setdefault(numbers[shown.name], set()).add(key)
    return wanted


def draw_overlays(runner: Runner, folder: RunFolder, number: int, keys: Collection[str]) -> None:
    """Writes overlays/PICTURE.METHOD.png of one picture for some methods, and overlays/PICTURE.png of its truth.

    Raises:
        OutputError: the files cannot be written.
    """
    item = runner.dataset.items[number]
    outcomes = {key: outcome for key, outcome in runner.outcomes(number) if key in keys and outcome.result is not None}
    opened = item.open()
    truth = show_truth(runner.task, runner.task.picture(opened), runner.task.truth(item, opened))
    where = folder.path / FOLDER
    shown: dict[Path, Any] = {} if truth is None else {truth_path(where, item.name): truth}
    shown |= {overlay_path(where, item.name, key): _settled(one) for key, one in outcomes.items()}
    worded = {path: one for path, one in shown.items() if isinstance(one, Segmentation) and not one.names[0].startswith("region ")}
    shown |= dict(zip(worded, only_found(list(worded.values())), strict=True))
    for path, one in shown.items():
        _save(path, one)


def _settled(outcome: Outcome) -> Any:
    """A result with its background threshold applied."""
    if outcome.threshold is None:
        return outcome.result
    above = outcome.result.confidence > np.float32(outcome.threshold)
    return dataclasses.replace(outcome.result, label_map=np.where(above, outcome.result.label_map, 0).astype(np.uint16))


def only_found(results: Sequence[Segmentation]) -> list[Segmentation]:
    """Results of one picture without the labels that none of them found; a name has the same number, hence colour, in all of them.

    The names of the first result come first, so that its legend is short.
    """
    numbers: dict[str, int] = {}
    for seg in results:
        for number in np.unique(seg.label_map):
            if number:
                numbers.setdefault(seg.names[number - 1], len(numbers) + 1)
    labels = tuple(map(Label, numbers)) or (Label("nothing"),)
    shared = []
    for seg in results:
        table = np.array([0, *(numbers.get(name, 0) for name in seg.names)], dtype=np.uint16)
        label_map = table[seg.label_map]
        shared.append(dataclasses.replace(seg, vocabulary=Vocabulary(labels[: max(1, int(label_map.max()))]), label_map=label_map))
    return shared


def show_truth(task: Task, picture: Picture, truth: Truth) -> Segmentation | None:
    """The truth as a result, in the colours of the results; of several annotators the first, None for boxes and where nothing is marked."""
    if task.kind == "boxes":
        return None
    if task.kind == "foreground":
        labels, numbers = [Label("foreground")], (truth > 0).astype(np.uint16)
    elif task.kind == "regions":
        values, places = np.unique(truth[0], return_inverse=True)
        labels, numbers = [Label(f"region {place + 1}") for place in range(len(values))], places.reshape(truth[0].shape) + 1
    else:
        chosen = task.present(truth)
        labels, numbers = [task.labels[place] for place in chosen], _numbers(truth, chosen)
    if not labels:
        return None
    shown = to_nearest(numbers, picture.size).astype(np.uint16)
    sure = np.ones(picture.size, dtype=np.float32)
    return Segmentation(picture, Vocabulary(tuple(labels)), shown, sure, Record(method="ground truth", model=""), lambda _: sure)


def _numbers(truth: npt.NDArray[np.int64], chosen: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Positions of classes as the numbers that a label map has; 0 for background and what is not scored."""
    table = np.zeros(max(chosen, default=0) + 2, dtype=np.int64)
    table[list(chosen)] = np.arange(1, len(chosen) + 1)
    places: npt.NDArray[np.int64] = table[np.where((truth >= 0) & (truth < len(table) - 1), truth, len(table) - 1)]
    return places


def _save(path: Path, result: Any) -> None:
    write_files(path.parent, path.stem, {".png": lambda file: result.overlay().save(file, "PNG")})
