"""Students from words alone beside the same students from true masks: mean IoU on held-out scenes, speed and size.

Command: `python benchmarks/words_to_model.py --pairs PAIRS`, PAIRS being of `maskwright synthesize` on the bundled model. Two students are
trained by `maskwright distill` with the same settings into runs/words-to-model/: one on the pairs, one on as many scenes of the renderer's
training split with their exact masks, the upper bound. With several `--rates` each student keeps the rate that is best on the tuning split;
the table is of the benchmark split, which chooses nothing. `--decoder` adds a decoder of `maskwright train --task semantic`.

Classes are the labels of the pairs; whatever else is in a scene (its ground, objects without a label) is background. "Words" is the mean
IoU over the labels, "with background" that over the background, too; "foreground" is the IoU of all labels together. Everybody is told
all labels and nothing of a scene. Scenes without a label are left out. Intervals are 95 %, by bootstrap over scenes. Pictures per second:
from a decoded picture to its label map, one at a time, with PyTorch, in this process. What is done is not done again; what was stopped
goes on.
"""

import argparse
import hashlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from maskwright.backbones.catalog import ASSETS
from maskwright.datasets.scenes import SceneSet, open_scenes
from maskwright.decoders.segmenter import DecoderSegmenter
from maskwright.discovery.writing import mask_picture
from maskwright.evaluation.bootstrap import Metric, draw_weights, interval
from maskwright.evaluation.confusion import class_iou, count_pixels, mean_iou, pixel_accuracy
from maskwright.exports.files import replacing
from maskwright.images import Picture
from maskwright.students.student import Student
from maskwright.training.examples import ExampleSet

FIRST = 20_000_000  # seed of the first training scene; far from those that the bundled model has seen
HEADING = (
    "| made from | words | with background | foreground | pixel accuracy | pictures / s | weights, MB | model.onnx, MB |\n"
    "|---|---|---|---|---|---|---|---|"
)
Counts = npt.NDArray[np.int64]


class Truth:
    """Scenes of the renderer as pictures and masks of the labels.

    Args:
        scenes: the word list.
        names: of the labels 1, 2, ...; all of them must be objects of the list.
        side: of the pictures, in pixels.
    """

    def __init__(self, scenes: SceneSet, names: Sequence[str], side: int) -> None:
        self.scenes, self.names, self.side = scenes, tuple(names), side
        objects = [word.name for word in scenes.words.objects]
        if strange := sorted(set(names) - set(objects)):
            raise SystemExit(f"the scenes have no {', '.join(strange)}: draw pairs of their objects, or choose other --scenes")
        self.lookup = np.zeros(len(scenes.words.all), dtype=np.uint8)
        for number, name in enumerate(names, start=1):
            self.lookup[objects.index(name)] = number

    def some(self, split: str, count: int, *, first: int = 0) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
        """Picture (H, W, 3) and mask (H, W) of the first scenes from a seed on that show a label."""
        seed = first
        while count:
            if any(self.lookup[place] for place in self.scenes.contents(seed, split=split).objects):
                scene = self.scenes.render(seed, split=split, side=self.side)
                count -= 1
                yield scene.image, self.lookup[scene.labels]
            seed += 1

    def write(self, folder: Path, count: int) -> None:
        """A plain data set of training scenes; what is there is kept, labels.txt comes last."""
        if (folder / "labels.txt").exists():
            return
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for number, (image, mask) in enumerate(self.some("train", count, first=FIRST)):
            for part, picture in (("images", Image.fromarray(image)), ("masks", mask_picture(mask))):
                with replacing(folder / part / f"{number:06d}.png") as file:
                    picture.save(file, "PNG", compress_level=3)
        with replacing(folder / "labels.txt") as file:
            file.write("".join(f"{name}\n" for name in self.names).encode())


def distill(data: Path, out: Path, rate: float, shared: str) -> str:
    """Trains a student unless that is done, or goes on; the command as a reader would type it."""
    command = f"maskwright distill {shlex.quote(str(data))} --out {shlex.quote(str(out))} --rate {rate:g} {shared}".rstrip()
    noted = out.with_name(f"{out.name}.command")
    if noted.exists() and noted.read_text(encoding="utf-8") != command:
        raise SystemExit(f"{out} was made by another command ({noted}): remove both, or choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    noted.write_text(command, encoding="utf-8")
    if not (out / "student.json").exists() or (out / "checkpoint.safetensors").exists():
        if subprocess.run([sys.executable, "-m", *shlex.split(command), "--resume"], check=False).returncode:
            raise SystemExit(command)
    return command


def measure(segment: Callable[[Picture], Any], truth: Truth, split: str, limit: int) -> dict[str, Any]:
    """Confusion counts of every scene, and the seconds that segmenting took."""
    classes, counts, seconds = len(truth.names) + 1, [], 0.0
    for number, (image, mask) in enumerate(truth.some(split, limit)):
        picture = Picture(image, f"{split}-{number}", "scenes")
        if not number:
            segment(picture)  # the first one is never like the others
        began = time.perf_counter()
        found = segment(picture).label_map
        seconds += time.perf_counter() - began
        counts.append(count_pixels(mask, found, classes=classes))
    return {"counts": np.stack(counts), "pace": limit / seconds}


def remembered(path: Path, weights: Path, segment: Callable[[Picture], Any], truth: Truth, split: str, limit: int) -> dict[str, Any]:
    """`measure`, or what it gave before for the same weights and scenes."""
    known = f"{hashlib.blake2b(weights.read_bytes(), digest_size=16).hexdigest()} {split} {limit}"
    if path.exists():
        with np.load(path) as stored:
            if str(stored["known"]) == known:
                return {"counts": stored["counts"], "pace": float(stored["pace"])}
    found = measure(segment, truth, split, limit)
    with replacing(path) as file:
        np.savez_compressed(file, known=known, **found)
    return found


def words_iou(counts: Counts) -> float:
    """Mean IoU over the labels that occur, the background left out."""
    ious, occurs = class_iou(counts)[1:], counts.sum(1)[1:] > 0
    return float(ious[occurs].mean()) if occurs.any() else float("nan")


def foreground_iou(counts: Counts) -> float:
    """IoU of all labels together."""
    return float(counts[1:, 1:].sum() / (counts.sum() - counts[0, 0]))


def with_interval(counts: Counts, figure: Callable[[Counts], float]) -> str:
    """A figure of all scenes and its interval, in per cent; `counts` are (scenes, classes, classes + 1)."""
    shape = counts.shape[1:]

    def finish(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.array([figure(row.reshape(shape).round().astype(np.int64)) for row in sums])

    metric = Metric(counts.reshape(len(counts), -1).astype(np.float64), finish)
    low, high = interval(metric.draws(draw_weights(len(counts))))
    return f"{100 * metric.value():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def row(title: str, found: dict[str, Any], sizes: Sequence[float | None]) -> str:
    """One line of the table."""
    counts = found["counts"]
    figures = [with_interval(counts, figure) for figure in (words_iou, mean_iou, foreground_iou)]
    shown = ["-" if size is None else f"{size / 1e6:.1f}" for size in sizes]
    return f"| {title} | {' | '.join(figures)} | {100 * pixel_accuracy(counts.sum(0)):.1f} | {found['pace']:.1f} | {' | '.join(shown)} |"


def student_row(title: str, folder: Path, data: Path, truth: Truth, options: argparse.Namespace, shared: str) -> tuple[str, str]:
    """Trains a student with every rate, chooses on the tuning split and measures on the benchmark split: its line, and how it was made."""
    tuned: dict[float, float] = {}
    commands: dict[float, str] = {}
    for rate in options.rates:
        out = folder / f"rate-{rate:g}"
        commands[rate] = distill(data, out, rate, shared)
        segment = Student.load(out, device=options.device).segment
        found = remembered(folder / f"rate-{rate:g}-tuning.npz", out / "model.safetensors", segment, truth, "tuning", options.limit)
        tuned[rate] = words_iou(found["counts"].sum(0))
    best = max(tuned, key=lambda rate: tuned[rate])
    out = folder / f"rate-{best:g}"
    segment = Student.load(out, device=options.device).segment
    found = remembered(folder / f"rate-{best:g}-benchmark.npz", out / "model.safetensors", segment, truth, "benchmark", options.limit)
    made = json.loads((out / "student.json").read_text(encoding="utf-8"))
    sizes = [made["bytes"]["model.safetensors"], made["bytes"].get("model.onnx")]
    paces = ", ".join(f"{one['pictures_per_second']:.0f} ({one['engine']}, batch {one['batch']})" for one in made["speed"])
    choice = ", ".join(f"rate {rate:g}: {100 * value:.1f}" for rate, value in tuned.items())
    note = f"- {title}: `{commands[best]}`, {made['examples']['count']} examples; words on the tuning split: {choice}"
    return row(title, found, sizes), f"{note}; pictures a second of the network alone: {paces}"


def decoder_row(folder: Path, truth: Truth, options: argparse.Namespace) -> str:
    """The line of a semantic decoder on the bundled model, whose U-Net it needs."""
    segmenter = DecoderSegmenter(options.model, folder, device=options.device)
    if strange := set(truth.names) - {label.name for label in segmenter.decoder.labels}:
        raise SystemExit(f"the decoder does not know {', '.join(sorted(strange))}: train it on the same pairs")

    def segment(picture: Picture) -> Any:
        return segmenter.segment(picture, list(truth.names))

    weights = folder / "decoder.safetensors"
    found = remembered(options.out / f"decoder-{folder.name}-benchmark.npz", weights, segment, truth, "benchmark", options.limit)
    own, size = ASSETS / options.model, weights.stat().st_size
    whole = size + sum(path.stat().st_size for path in own.rglob("*.safetensors"))
    return row(f"the same pairs: a decoder of {size / 1e6:.1f} MB on the model itself", found, [whole, None])


def read_options() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="folder of `maskwright synthesize`; it may grow meanwhile")
    parser.add_argument("--out", type=Path, default=Path("runs/words-to-model"))
    parser.add_argument("--scenes", default="scenes", choices=("scenes", "scenes-full"), help="what the model was trained to draw")
    parser.add_argument("--decoder", type=Path, help="folder of `maskwright train --task semantic`")
    parser.add_argument("--model", default="sticker", help="of the decoder")
    parser.add_argument("--rates", type=lambda text: [float(part) for part in text.split(",")], default=[1e-3], metavar="RATE,RATE")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--student", help="as for `maskwright distill`")
    parser.add_argument("--no-onnx", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--limit", type=int, default=200, help="scenes of a split")
    return parser.parse_args()


def main() -> None:
    """Trains, chooses, measures, and prints the table, which also goes to table.md."""
    options = read_options()
    given = {name: getattr(options, name) for name in ("epochs", "batch", "size", "student")}
    shared = " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None)
    shared = f"{shared} --seed {options.seed} --device {options.device}{' --no-onnx' if options.no_onnx else ''}".strip()
    examples = ExampleSet.open(options.pairs)
    truth = Truth(open_scenes(options.scenes), examples.names, min(examples.read(0).size))
    options.out.mkdir(parents=True, exist_ok=True)
    lines, notes = [HEADING], []
    line, note = student_row("pairs that the model drew", options.out / "synthetic", options.pairs, truth, options, shared)
    lines.append(line)
    notes.append(note)
    first = options.out / "synthetic" / f"rate-{options.rates[0]:g}" / "student.json"
    count = json.loads(first.read_text(encoding="utf-8"))["examples"]["count"]
    truth.write(options.out / "true-masks", count)
    line, note = student_row("true masks of the renderer", options.out / "true", options.out / "true-masks", truth, options, shared)
    lines.append(line)
    notes.append(note)
    if options.decoder is not None:
        lines.append(decoder_row(options.decoder, truth, options))
    how = f"`python {shlex.join(sys.argv)}`: {options.limit} scenes of the benchmark split, {torch.get_num_threads()} CPU threads."
    text = "\n".join([*lines, "", how, "", *notes, ""])
    with replacing(options.out / "table.md") as file:
        file.write(text.encode())
    print(text)


if __name__ == "__main__":
    main()
