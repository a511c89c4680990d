"""Loads CLIP and BLIP checkpoints: from a local folder, else the hub's cache, else the network. Every failure is one ModelError.

Loading is two steps. A name becomes a folder (only here may the network be asked, once), then the folder is read. Reading
from a folder never asks the network, so nothing waits for retries, and the folder's name tells the commit.
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.backbones.hub import SIDECAR
from maskwright.errors import ImageError, ModelError, brief
from maskwright.hub_cache import find_snapshot
from maskwright.quiet import quiet

if TYPE_CHECKING:
    import torch

# What a folder must hold; each row lists files of which one is enough. Pickled weights are never read.
NEEDED = (
    ("config.json",),
    ("*.safetensors",),
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.json", "vocab.txt"),
)
WANTED = ["*.json", "*.txt", "*.safetensors"]  # what is downloaded
DUAL = "vision-text-dual-encoder"  # any image encoder beside any text encoder; here CLIP's
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint.

    Attributes:
        name: what messages call it.
        default: hub id of the checkpoint that is used unless another is named.
        revision: pinned commit of `default`.
        kinds: what config.json may say that the model is, and the class in transformers for each.
        tokenizer_class, processor_class: names in transformers. The Pil processors need no torchvision.
    """

    name: str
    default: str
    revision: str
    kinds: Mapping[str, str]
    tokenizer_class: str
    processor_class: str


CLIP = Family(
    name="CLIP",
    default="openai/clip-vit-large-patch14",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    kinds={"clip": "CLIPModel", DUAL: "VisionTextDualEncoderModel"},
    tokenizer_class="CLIPTokenizer",
    processor_class="CLIPImageProcessorPil",
)
BLIP = Family(
    name="BLIP",
    default="Salesforce/blip-image-captioning-large",
    revision="353689b859fcf0523410b1806dace5fb46ecdf41",
    kinds={"blip": "BlipForConditionalGeneration"},
    tokenizer_class="BertTokenizer",
    processor_class="BlipImageProcessorPil",
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model: float32, in eval mode, no parameter asks for a gradient.

    Attributes:
        model, tokenizer, processor: the transformers objects.
        source: the folder or hub id that it was loaded from.
        revision: the commit, where the hub or its cache was used; else what `facts` say, None where they say nothing.
        facts: of a maskwright.json beside the weights: "ratio" that suits a CLIP in the category filter, "revision"; {} if there is none.
    """

    model: Any
    tokenizer: Any
    processor: Any
    source: str
    revision: str | None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> "torch.device":
        """Where the parameters are."""
        device: torch.device = self.model.device
        return device

    def pixel_values(self, pictures: Sequence[npt.NDArray[np.uint8]]) -> "torch.Tensor":
        """Pictures (H, W, 3) uint8 RGB of any sizes to (B, 3, h, w) float32, resized and normalised as the model wants them.

        Raises:
            ImageError: an array of another shape or type.
        """
        # through Pillow: from a bare array the processor guesses the layout, wrongly for one that is 3 pixels high
        images = [Image.fromarray(checked(picture)) for picture in pictures]
        pixels: torch.Tensor = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return pixels.to(self.device)


def checked(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The picture itself, when it is (H, W, 3) uint8 RGB with at least one pixel; an ImageError otherwise."""
    if not isinstance(picture, np.ndarray):
        raise ImageError(f"a picture has to be a numpy array, not {type(picture).__name__}: pass the pixels of Picture.open")
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        found = f"{picture.shape} {picture.dtype}"
        raise ImageError(f"a picture has to be (H, W, 3) uint8 RGB, not {found}: pass the pixels of Picture.open")
    return picture


def load_checkpoint(
    family: Family,
    source: str | Path | None = None,
    *,
    device: str = "cpu",
    offline: bool = False,
    revision: str | None = None,
) -> Checkpoint:
    """Loads a model with its tokenizer and image processor.

    Args:
        family: CLIP or BLIP.
        source: a local folder or a hub id; None is the family's default.
        device: a torch device.
        offline: never ask the network.
        revision: commit, tag or branch on the hub; None is the pinned commit of the default checkpoint, "main" of any other.

    Raises:
        ModelError: one line with what is wrong and what to do.
    """
    source = str(source or family.default)
    folder = find_folder(family, source, offline=offline, revision=revision)
    kind = _check_folder(family, folder)
    facts = _read_object(folder / SIDECAR) if (folder / SIDECAR).exists() else {}
    try:
        model, tokenizer, processor = _read(family, kind, folder)
    except Exception as error:
        raise ModelError(f"cannot load {family.name} from {folder} ({brief(error)}): fetch the checkpoint again") from error
    try:
        model = model.to(device)
    except Exception as error:
        raise ModelError(f"cannot put {family.name} on device '{device}' ({brief(error)}): choose device 'cpu'") from error
    commit = folder.name if COMMIT.fullmatch(folder.name) else facts.get("revision")
    return Checkpoint(model, tokenizer, processor, source, commit, facts)


def find_folder(family: Family, source: str, *, offline: bool = False, revision: str | None = None) -> Path:
    """The folder that holds a checkpoint: `source` itself, or its snapshot in the hub's cache, downloaded if it must be.

    A complete snapshot in the cache is used as it is; the hub is not asked for a newer one.

    Raises:
        ModelError: no such folder or id, not cached while offline, or not to be downloaded.
    """
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # names that no folder can have, homes that nobody has
        if (folder := Path(source).expanduser()).is_dir():
            return folder
    if not HUB_ID.fullmatch(source) or source.startswith("."):
        raise ModelError(f"no folder {source}: pass one with a {family.name} checkpoint, or a hub id such as {family.default}")
    revision = revision or (family.revision if source == family.default else "main")
    fetch = f"hf download {source} --revision {revision}"
    cached = find_snapshot(source, wanted=WANTED, revision=revision, local=True)
    if cached and not _missing(cached):
        return cached
    if offline:
        held = f"{source} is {'only in part' if cached else 'not'} in the local cache"
        raise ModelError(f"{held}, and offline is on: run `{fetch}` while online, or pass a local folder")
    if downloaded := find_snapshot(source, wanted=WANTED, revision=revision, local=False):
        return downloaded
    raise ModelError(f"cannot download {source}: check the connection, or pass a local folder (`{fetch}` on another machine)")


def _missing(folder: Path) -> list[str]:
    """The first name of each row of NEEDED of which the folder has no file."""
    return [names[0] for names in NEEDED if not any(any(folder.glob(name)) for name in names)]


def _check_folder(family: Family, folder: Path) -> str:
    """Refuses, before anything heavy is imported, a folder that cannot be a checkpoint of this family."""
    if missing := _missing(folder):
        lacks = f"{folder} is no {family.name} checkpoint, it lacks {', '.join(missing)}"
        raise ModelError(f"{lacks}: pass one in the layout of {family.default}")
    config = _read_object(folder / "config.json")
    found, text = config.get("model_type"), config.get("text_config")
    if found not in family.kinds:
        raise ModelError(f"{folder} holds a model of type '{found}', not {family.name}: pass one such as {family.default}")
    if found == DUAL and (kind := text.get("model_type") if isinstance(text, dict) else None) != "clip_text_model":
        raise ModelError(f"{folder} reads words by a model of type '{kind}', not by CLIP's: pass one such as {family.default}")
    return str(found)


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path} ({brief(error)}): fetch the checkpoint again") from error
    if not isinstance(content, dict):
        raise ModelError(f"cannot read {path} (it is no JSON object): fetch the checkpoint again")
    return content


def _read(family: Family, kind: str, folder: Path) -> tuple[Any, Any, Any]:
    """Model, tokenizer and image processor. The classes are named here, not read from the files: no code comes with weights."""
    import torch
    import transformers

    with quiet(transformers):
        model, report = getattr(transformers, family.kinds[kind]).from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        # transformers fills what is missing with random numbers and goes on
        if absent := sorted(report["missing_keys"]):
            raise ValueError(f"{len(absent)} weights are missing, the first is {absent[0]}")
        tokenizer = getattr(transformers, family.tokenizer_class).from_pretrained(folder, local_files_only=True)
        processor = getattr(transformers, family.processor_class).from_pretrained(folder, local_files_only=True)
    return model.eval().requires_grad_(False), tokenizer, processor
