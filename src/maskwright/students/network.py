"""The student as a network: pixels in, a logit for each class at each pixel out. What is trained is what is deployed."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.discovery.pairs import IGNORE
from maskwright.errors import ModelError, SettingsError, brief
from maskwright.quiet import quiet
from maskwright.students.settings import StudentSettings
from maskwright.students.source import PROCESSOR, find_checkpoint, read_json

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as in all published SegFormers

OF_STAGES = ("sr_ratios", "patch_sizes", "strides", "mlp_ratios")  # of a SegFormer, the same in all published ones


@dataclass(frozen=True)
class Normalisation:
    """How pixels become what a network reads: (pixels * scale - mean) / std for each channel.

    Attributes:
        scale: of values 0..255.
        mean, std: for R, G, B, or for B, G, R where `reverse`.
        reverse: whether the network reads blue first, as MobileViT does.
    """

    scale: float = 1 / 255
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    reverse: bool = False

    @classmethod
    def of(cls, processor: Mapping[str, Any]) -> "Normalisation":
        """That of a preprocessor_config.json; what it leaves out is as in a SegFormer.

        Raises:
            ModelError: values that are none.
        """
        try:
            scale = float(processor.get("rescale_factor", cls.scale)) if processor.get("do_rescale", True) else 1.0
            reverse = bool(processor.get("do_flip_channel_order", False))
            plain = not processor.get("do_normalize", not reverse)
            mean, std = ((0.0,) * 3, (1.0,) * 3) if plain else (processor.get("image_mean", MEAN), processor.get("image_std", STD))
            (a, b, c), (d, e, f) = map(float, mean), map(float, std)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{PROCESSOR} says nothing usable of how pictures are normalised ({brief(error)}): restore it") from error
        return cls(scale, (a, b, c), (d, e, f), reverse)


class StudentNetwork(nn.Module):
    """A network of transformers with everything around it that a user would have to know otherwise.

    Attributes:
        model: gives `logits` (n, classes, h, w) for `pixel_values` (n, 3, H, W).
        normalisation: of pixels.
    """

    mean: Tensor
    std: Tensor

    model: Any

    def __init__(self, model: Any, normalisation: Normalisation) -> None:
        """Wraps a model of transformers; the state is the model's alone."""
        super().__init__()
        self.model, self.normalisation = model, normalisation
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(3, 1, 1), persistent=False)  # (3, 1, 1)
        self.register_buffer("std", torch.tensor(normalisation.std).view(3, 1, 1), persistent=False)  # (3, 1, 1)

    @property
    def classes(self) -> int:
        """The labels and, as number 0, the background."""
        return int(self.model.config.num_labels)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits at the pictures' size.

        Args:
            pixels: (n, H, W, 3) uint8 RGB, at about the size at which the network was trained.

        Returns:
            (n, classes, H, W) float32.
        """
        return self.enlarge(self.coarse(pixels), pixels)

    def coarse(self, pixels: Tensor) -> Tensor:
        """Logits on the network's own grid, (n, classes, h, w) float32."""
        values = pixels.permute(0, 3, 1, 2).float() * self.normalisation.scale  # (n, H, W, 3) -> (n, 3, H, W)
        values = (values.flip(1) if self.normalisation.reverse else values).sub(self.mean).div(self.std)
        logits: Tensor = self.model(pixel_values=values).logits
        return logits.float()

    @staticmethod
    def enlarge(logits: Tensor, pixels: Tensor) -> Tensor:
        """Logits at the size of pixels (n, H, W, 3): bilinear, no half-pixel shift, as `images.upsample`, but exportable."""
        return F.interpolate(logits, size=pixels.shape[1:3], mode="bilinear", align_corners=False)


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes 0, 1, ...: the background's, which no label has, then the labels'."""
    ground = "background" if "background" not in map(str.casefold, names) else "(background)"
    return (ground, *names)


def build_student(settings: StudentSettings, names: Sequence[str], *, seed: int = 0, offline: bool = False) -> StudentNetwork:
    """A network that is yet to learn the labels.

    Args:
        settings: which.
        names: of the labels 1, 2, ...
        seed: of the random weights: all of them, or those of a checkpoint's new head.
        offline: never touch the network.

    Raises:
        ModelError: a checkpoint that cannot be found or used.
    """
    classes = class_names(names)
    words: dict[str, Any] = {"id2label": dict(enumerate(classes)), "label2id": {name: number for number, name in enumerate(classes)}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if settings.checkpoint:
            folder = find_checkpoint(settings.checkpoint, offline=offline)
            return StudentNetwork(_adopt(folder, words), Normalisation.of(read_json(folder / PROCESSOR)))
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        stages = len(settings.channels)
        usual: dict[str, Any] = {name: getattr(SegformerConfig(), name)[:stages] for name in OF_STAGES}
        config = SegformerConfig(
            num_encoder_blocks=stages, hidden_sizes=settings.channels, depths=settings.layers, num_attention_heads=settings.heads,
            decoder_hidden_size=settings.width, semantic_loss_ignore_index=IGNORE, **usual, **words,
        )  # fmt: skip
        return StudentNetwork(SegformerForSemanticSegmentation(config), Normalisation())


def load_network(folder: Path) -> StudentNetwork:
    """A trained student from its folder, in eval mode.

    Raises:
        ModelError: a folder that holds none.
    """
    import transformers

    find_checkpoint(str(folder), offline=True)
    try:
        with quiet(transformers):
            model, report = transformers.AutoModelForSemanticSegmentation.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
        if report["missing_keys"]:
            raise ValueError(f"{len(report['missing_keys'])} weights are missing")
    except Exception as error:
        raise ModelError(f"cannot load the student in {str(folder)!r} ({brief(error)}): make it again") from error
    return StudentNetwork(model, Normalisation.of(read_json(folder / PROCESSOR))).eval()


def try_out(network: StudentNetwork, size: int) -> bool:
    """Whether the network reads pictures of any shape, not only squares.

    Args:
        network: untouched but for its statistics, as it runs in eval mode.
        size: of the square that it must read.

    Raises:
        SettingsError: it cannot read squares of this size.
    """
    device, training = network.mean.device, network.training
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, size, size, 3, dtype=torch.uint8, device=device))
            try:
                network(torch.zeros(1, size, size + 37, 3, dtype=torch.uint8, device=device))
            except (RuntimeError, ValueError):
                return False
    except (RuntimeError, ValueError) as error:
        own = getattr(network.model.config, "image_size", None)
        advice = f"--size {own}" if own else "another --size"
        raise SettingsError(f"this network cannot read pictures of {size} pixels ({brief(error)}): try {advice}") from error
    finally:
        network.train(training)
    return True


def _adopt(folder: Path, words: Mapping[str, Any]) -> Any:
    """A checkpoint with a new head for the labels, also where the old head has as many."""
    import transformers

    auto = transformers.AutoModelForSemanticSegmentation
    try:
        with quiet(transformers):
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, **words)
            heads = _depends_on_labels(auto, config)
            model, report = auto.from_pretrained(
                folder, config=config, dtype=torch.float32, use_safetensors=True, local_files_only=True,
                ignore_mismatched_sizes=True, output_loading_info=True,
            )  # fmt: skip
        odd = {str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"]} - heads
        lost = {key for key in report["missing_keys"] if key.startswith(f"{model.base_model_prefix}.")}
        if broken := sorted(odd | lost):
            raise ValueError(f"{len(broken)} weights are missing or of another shape, the first is {broken[0]}")
    except Exception as error:
        name = str(folder)
        raise ModelError(f"cannot begin with {name!r} ({brief(error)}): give a checkpoint for semantic segmentation") from error
    for key, parameter in model.named_parameters():
        if key in heads:
            nn.init.zeros_(parameter) if parameter.ndim == 1 else nn.init.normal_(parameter, std=0.02)
    return model


def _depends_on_labels(auto: Any, config: Any) -> set[str]:
    """Names of the weights whose shape changes with the number of labels: the heads."""
    shapes = []
    for more in (0, 1):
        changed = copy.deepcopy(config)
        changed.num_labels = config.num_labels + more
        with torch.device("meta"):
            shapes.append({name: tuple(weight.shape) for name, weight in auto.from_config(changed).named_parameters()})
    return {name for name, shape in shapes[0].items() if shapes[1][name] != shape}
