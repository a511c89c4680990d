"""DiffusionSeg's second stage: trained decoders of every kind beside AttentionCut and an untrained control.

Command: `python benchmarks/decoders.py PAIRS --data DATA`, PAIRS being of `maskwright synthesize`. Each decoder is trained
by `maskwright train` into runs/decoders/NAME/decoder and measured by `maskwright evaluate` into the folders beside it; what is done is not
done again, what was stopped goes on, and a NAME that is removed is made anew. The variants: noise once, DDIM inversion up to the timestep,
and to the end and back; the model's own word as the text condition, without and with its attention (A_c and r) as two more channels; a
second round on 300 scenes of the renderer's training split whose masks are not used; and the untrained control, the same decoder on the
model's networks with random weights. The tuning split of the scenes chooses, the other sets only measure.

Scenes: all objects against the ground; a box hits where it fits any object's. AttentionCut and DAAM are asked twice: for the words of the
scene, which its truth knows, beside its ground (an oracle), and for their own choice of a word. The decoders are told nothing. The last
column is the decoder's IoU less that of AttentionCut with the words of the truth (scenes) or with its own (photographs), on the same
pictures. All intervals are 95 %, by bootstrap over pictures. The two maximal F are never comparable with each other.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import transformers
from PIL import Image
from scenes import randomise

from maskwright.backbones.catalog import ASSETS
from maskwright.backbones.loading import load_backbone
from maskwright.datasets.scenes import open_scenes
from maskwright.evaluation.bootstrap import draw_weights, interval
from maskwright.quiet import quiet

PICTURES, FIRST = 300, 10_000_000  # scenes without masks for the second round, and the seed of the first
METRICS = {
    "iou": "IoU", "accuracy": "accuracy", "mae": "MAE", "max_f_tokencut": "max F (.3)", "max_f_selfmask": "max F (.09)", "max_e": "max E",
    "weighted_f": "weighted F", "corloc": "box hit",
}  # fmt: skip
UNTRAINED = "untrained-model"


@dataclass(frozen=True)
class Variant:
    """One decoder: how it is called, and what `maskwright train` is told of it beside what all are told."""

    title: str
    options: str
    untrained: bool = False


def variants(inversion: str) -> dict[str, Variant]:
    """All decoders by the name of their folder; the later ones are made with one of the inversions."""
    made = {
        "none": Variant("noise once", "--inversion none"), "partial": Variant("partial inversion", "--inversion partial"),
        "full": Variant("full inversion", "--inversion full"),
    }  # fmt: skip
    same = made[inversion].options
    return made | {
        "match": Variant(f"{inversion}, the model's own word", f"{same} --prior match"),
        "attention": Variant(f"{inversion}, own word, A_c and r", f"{same} --prior match --attention"),
        "self-training": Variant(f"{inversion}, second round", f"{same} --self-train {{pictures}}"),
        "untrained": Variant(f"*{inversion}, untrained networks*", same, untrained=True),
    }


@dataclass(frozen=True)
class Measured:
    """A data set as `maskwright evaluate` is asked for it; `words` are what AttentionCut and DAAM are told beside their own choice."""

    title: str
    options: str
    words: str = ""


@dataclass(frozen=True)
class Bench:
    """What the command line says."""

    pairs: Path
    out: Path
    data: Path | None
    model: str
    scenes: str
    shared: str
    refine: str
    limit: int | None

    @property
    def sets(self) -> dict[str, Measured]:
        """Where everything is measured; the first one chooses."""
        scenes = {
            split: Measured(f"{self.scenes}, {split} split", f"--dataset {self.scenes}-foreground --split {split}", "--labels @truth")
            for split in ("tuning", "benchmark")
        }
        names = ("horses", "davis") if self.data else ()
        return scenes | {name: Measured(name, f"--dataset folder:{self.data}/{name}") for name in names}

    def train(self, name: str, variant: Variant) -> dict[str, Any]:
        """Trains a decoder unless that is done; its decoder.json with the "seconds" that all this took."""
        folder = self.out / name
        options = variant.options.format(pictures=self.out / "pictures")
        model = str(self.out / UNTRAINED) if variant.untrained else self.model
        command = f"train {self.pairs} --out {folder / 'decoder'} --model {model} {options} {self.shared} --resume --quiet"
        cost = folder / "seconds.json"
        seconds = json.loads(cost.read_text()) if cost.exists() else 0.0
        if not (folder / "decoder" / "decoder.json").exists() or (folder / "decoder" / "checkpoint.safetensors").exists():
            folder.mkdir(parents=True, exist_ok=True)
            began = time.perf_counter()
            try:
                maskwright(command)
            finally:
                seconds += time.perf_counter() - began
                cost.write_text(json.dumps(seconds))
        document = json.loads((folder / "decoder" / "decoder.json").read_text(encoding="utf-8"))
        return document | {"seconds": seconds, "command": show(command)}

    def evaluate(self, folder: Path, options: str, *, model: str) -> dict[str, Any]:
        """The summary of `maskwright evaluate`, which goes on where it was stopped."""
        limit = f" --limit {self.limit}" if self.limit else ""
        place = folder if self.refine == "none" else folder.with_name(f"{folder.name}-{self.refine}")
        drawn = f"--refine {self.refine} --out {place}{limit} --resume --overlays 0"
        output = maskwright(f"evaluate {options} --model {model} {drawn} --json --quiet")
        return dict(json.loads(output))

    def comparators(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """AttentionCut and DAAM on one set: title and figures, the one that decoders are compared with first."""
        asked = self.sets[name]
        ways = {"words of the truth": asked.words, "its own word": ""} if asked.words else {"its own word": ""}
        for way, words in ways.items():
            folder = self.out / "comparators" / f"{name}-{way.replace(' ', '-')}"
            summary = self.evaluate(folder, f"{asked.options} --method attentioncut,daam {words}", model=self.model)
            yield from ((f"{key}, {way}", found) for key, found in summary["methods"].items())
        if asked.words:
            folder = self.out / "comparators" / f"{name}-untrained"
            found = self.evaluate(folder, f"{asked.options} --method attentioncut {asked.words}", model=str(self.out / UNTRAINED))
            yield "*attentioncut, words of the truth, untrained networks*", found["methods"]["attentioncut"]

    def decoder(self, name: str, variant: Variant, place: str) -> dict[str, Any]:
        """One decoder's figures on one set."""
        model = str(self.out / UNTRAINED) if variant.untrained else self.model
        options = f"{self.sets[place].options} --method diffusionseg --set decoder={self.out / name / 'decoder'}"
        return dict(self.evaluate(self.out / name / place, options, model=model)["methods"]["diffusionseg"])


def maskwright(command: str) -> str:
    """What a command prints; its error ends this one."""
    done = subprocess.run(
        [sys.executable, "-m", "maskwright", *shlex.split(command)], stdout=subprocess.PIPE, stderr=None, text=True, check=False
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"maskwright {command}")
    return done.stdout


def show(command: str) -> str:
    """A command as a reader would type it."""
    return f"`maskwright {command.removesuffix(' --resume --quiet')}`"


def write_untrained(model: str, folder: Path) -> None:
    """The model with random weights in U-Net and text encoder, in a folder of its own; nothing if that is there."""
    if (folder / "done").exists():
        return
    source = ASSETS / model if (ASSETS / model).is_dir() else Path(model)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=lambda path, _: ["unet", "text_encoder"] if Path(path) == source else [])
    sidecar = folder / "maskwright.json"
    if sidecar.exists():
        sidecar.write_text(json.dumps(json.loads(sidecar.read_text(encoding="utf-8")) | {"revision": "untrained"}), encoding="utf-8")
    backbone = load_backbone(model)
    randomise(backbone, 0)
    with quiet(diffusers, transformers):
        backbone.unet.save_pretrained(folder / "unet")
        backbone.text.encoder.save_pretrained(folder / "text_encoder")
    (folder / "done").touch()


def write_pictures(scenes: str, folder: Path) -> None:
    """Scenes of the renderer's training split as files, without masks; nothing if they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(PICTURES):
        path = folder / f"{seed:03d}.png"
        if not path.exists():
            Image.fromarray(open_scenes(scenes).render(FIRST + seed, split="train").image).save(path)


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Mean difference of the pictures' IoU with its interval, in per cent."""
    values = [{entry["name"]: entry["value"] for entry in found["pictures"]} for found in (one, other)]
    gaps = np.array([values[0][name] - values[1][name] for name in values[0]])
    low, high = interval(draw_weights(len(gaps)) @ gaps / len(gaps))
    return f"{100 * gaps.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def row(title: str, found: Mapping[str, Any], against: Mapping[str, Any] | None) -> str:
    """One line of a table, in per cent, the IoU with its interval."""
    cells = [f"{100 * found['metrics'][name]['value']:.1f}" for name in METRICS]
    low, high = (found["metrics"]["iou"][end] for end in ("low", "high"))
    cells[0] += f" [{100 * low:.1f}, {100 * high:.1f}]"
    failed = f" ({len(found['failed'])} failed)" if found["failed"] else ""
    gap = "" if against is None else difference(found, against)
    return f"| {title}{failed} | {' | '.join(cells)} | {found['seconds'] or 0:.3f} | {gap} |"


def table(bench: Bench, made: Mapping[str, Variant], place: str, best: str | None) -> str:
    """Prints a set's table; the name of the trained decoder with the highest IoU."""
    head = ("decoder or method", *METRICS.values(), "s / picture", "IoU less AttentionCut's")
    print(f"\n{bench.sets[place].title}:\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    others = dict(bench.comparators(place))
    against = next(iter(others.values()))
    found = {}
    for name, variant in made.items():
        found[name] = bench.decoder(name, variant, place)
        title = f"**{variant.title}**, chosen" if name == best else variant.title
        print(row(title, found[name], against), flush=True)
    for title, one in others.items():
        print(row(title, one, None), flush=True)
    return max((name for name in found if not made[name].untrained), key=lambda name: found[name]["metrics"]["iou"]["value"])


def table_of_training(bench: Bench, made: Mapping[str, Variant]) -> None:
    """Trains all, and prints what each cost and what its validation says: agreement with AttentionCut on drawn pictures, no truth."""
    print("| decoder | pairs | training, minutes | size, MB | validation |\n|---|---|---|---|---|", flush=True)
    commands, pairs = [], set()
    for name, variant in made.items():
        document = bench.train(name, variant)
        training = document["training"]
        pairs.add(training["trained_on"])
        commands.append(document["command"])
        size = (bench.out / name / "decoder" / "decoder.safetensors").stat().st_size / 1e6
        figures = ", ".join(f"{key} {value:.3f}" for key, value in training["figures"].items() if value is not None)
        print(f"| {variant.title} | {training['trained_on']} | {document['seconds'] / 60:.1f} | {size:.1f} | {figures} |", flush=True)
    print("\n" + "  \n".join(commands))
    if len(pairs) > 1:
        print("\nThe decoders had different numbers of pairs: the folder grew meanwhile. Remove the older ones to compare like with like.")


def classes(bench: Bench) -> None:
    """Trains a decoder of classes, and prints its mean IoU on scenes whose ground is background."""
    document = bench.train("semantic", Variant("classes", "--inversion partial --task semantic"))
    print(f"\n| classes of {bench.scenes}-objects | mIoU | mean of pictures | pixel accuracy | training, minutes |\n|---|---|---|---|---|")
    for labels in ("all", "present"):
        options = f"--dataset {bench.scenes}-objects --method diffusionseg-semantic --protocol maskwright,labels=" + labels
        folder = bench.out / "semantic"
        summary = bench.evaluate(folder / labels, f"{options} --set decoder={folder / 'decoder'}", model=bench.model)
        metrics = summary["methods"]["diffusionseg-semantic"]["metrics"]
        cells = [f"{100 * metrics[name]['value']:.1f}" for name in ("miou", "picture_miou", "pixel_accuracy")]
        cells[0] += f" [{100 * metrics['miou']['low']:.1f}, {100 * metrics['miou']['high']:.1f}]"
        compete = "those in the picture compete (an oracle)" if labels == "present" else "all compete"
        print(f"| {compete} | {' | '.join(cells)} | {document['seconds'] / 60:.1f} |", flush=True)
    print(f"\n{document['command']}")


def read_options() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="folder of `maskwright synthesize`; leave it alone until all decoders are trained")
    parser.add_argument("--out", type=Path, default=Path("runs/decoders"))
    parser.add_argument("--data", type=Path, help="a folder that holds horses/ and davis/")
    parser.add_argument("--model", default="sticker")
    parser.add_argument("--scenes", default="scenes", choices=("scenes", "scenes-full"), help="what the model was trained to draw")
    parser.add_argument("--inversion", choices=("none", "partial", "full"), default="partial", help="of the variants that are not about it")
    parser.add_argument("--timestep", type=int, default=100)
    parser.add_argument("--steps", type=int, default=5, help="of the inversion up to the timestep")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32, help="pairs in a step")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--only", help="names of variants with commas: none, partial, full, match, attention, self-training, untrained")
    parser.add_argument("--classes", action="store_true", help="also a decoder of classes")
    parser.add_argument("--refine", default="none", choices=("none", "guided", "pamr"), help="of everything that is measured")
    parser.add_argument("--limit", type=int, help="only the first pictures of each set")
    return parser.parse_args()


def main() -> None:
    """Trains, chooses on the tuning split, and measures on all sets."""
    options = read_options()
    shared = (
        f"--timestep {options.timestep} --inversion-steps {options.steps} --epochs {options.epochs} --batch {options.batch}"
        f" --rate {options.rate} --width {options.width}"
    )
    bench = Bench(options.pairs, options.out, options.data, options.model, options.scenes, shared, options.refine, options.limit)
    made = variants(options.inversion)
    if options.only:
        made = {name: made[name] for name in options.only.split(",")}
    write_untrained(options.model, options.out / UNTRAINED)
    write_pictures(options.scenes, options.out / "pictures")
    print(f"`python {shlex.join(sys.argv)}`\n", flush=True)
    table_of_training(bench, made)
    best: str | None = None
    for place in bench.sets:
        chosen = table(bench, made, place, best)
        best = best or chosen
    if options.classes:
        classes(bench)


if __name__ == "__main__":
    main()
