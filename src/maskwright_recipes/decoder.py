"""The decoder that comes with the model: pairs that the model draws of its own words, and a light decoder trained on them."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from maskwright.backbones.loading import load_backbone
from maskwright.decoders.decoder import Decoder
from maskwright.errors import SettingsError

# Chosen on the tuning scenes: two steps of partial inversion up to 200. A narrow decoder, because the features say most of it.
INVERSION, TIMESTEP, STEPS, WIDTH = "partial", 200, 2, 128


@dataclass(frozen=True)
class DecoderPlan:
    """What the bundled decoder is made of.

    Attributes:
        model: that draws and is read; its vocabulary is closed.
        out: folder of the run: pairs/ and decoder/.
        pairs: places of the data set, of which the filters keep most.
        objects: words in a scene, as `maskwright synthesize --objects` takes them.
        epochs, batch, rate: of the training.
    """

    model: str
    out: Path
    pairs: int = 1120
    objects: str = "1-3"
    epochs: int = 10
    batch: int = 8
    rate: float = 1e-3


def train_bundled(plan: DecoderPlan, to: Path) -> Decoder:
    """Draws, trains, and stores the decoder in half precision; every step goes on where it was stopped.

    Raises:
        SettingsError: a model whose vocabulary is open, or a step that failed.
    """
    objects = load_backbone(plan.model, offline=True).info.objects
    if not objects:
        raise SettingsError(
            f"{plan.model} names no objects of its own: draw pairs with `maskwright synthesize --labels`, then `maskwright train`"
        )
    pairs, decoder = plan.out / "pairs", plan.out / "decoder"
    common = ("--model", plan.model, "--offline", "--resume")
    _maskwright(
        "synthesize", "--labels", ", ".join(objects), "--count", str(plan.pairs), "--objects", plan.objects, "--out", str(pairs), *common
    )
    _maskwright(
        "train", str(pairs), "--out", str(decoder), "--inversion", INVERSION, "--timestep", str(TIMESTEP), "--inversion-steps", str(STEPS),
        "--width", str(WIDTH), "--epochs", str(plan.epochs), "--batch", str(plan.batch), "--rate", str(plan.rate), *common,
    )  # fmt: skip
    trained = Decoder.load(decoder)
    trained.save(to, half=True)
    return trained


def _maskwright(*command: str) -> None:
    """One command of maskwright, in a process of its own, as a user would run it."""
    if subprocess.run([sys.executable, "-m", "maskwright", *command], check=False).returncode:
        raise SettingsError(f"maskwright {command[0]} did not finish: the same command goes on where it was stopped")
