"""A decoder with all that is needed to use it again: a folder of two files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch

from maskwright.backbones.catalog import ASSETS
from maskwright.backbones.contract import Backbone
from maskwright.decoders.features import describe_model, last_levels
from maskwright.decoders.network import LightDecoder
from maskwright.decoders.settings import DecoderSettings
from maskwright.errors import MaskwrightError, ModelError, brief
from maskwright.exports.files import write_files
from maskwright.record import plain
from maskwright.versions import package_versions
from maskwright.vocabulary import Label, Vocabulary

STEM, BUNDLED = "decoder", "bundled"
KIND, NUMBER = "maskwright decoder", 1


def new_network(settings: DecoderSettings, channels: Sequence[int], *, labels: Sequence[Label] = (), seed: int = 0) -> LightDecoder:
    """An untrained network, its weights random by `seed` alone.

    Args:
        settings: of the decoder.
        channels: `FeatureReader.channels`.
        labels: of a semantic decoder.
        seed: of the weights; the global state of randomness stays as it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LightDecoder(channels, width=settings.width, outputs=outputs_of(settings, labels))


def outputs_of(settings: DecoderSettings, labels: Sequence[Label]) -> int:
    """Channels of a decoder's logits: one for saliency, else the background and each label."""
    return 1 if settings.task == "saliency" else 1 + len(labels)


@dataclass(frozen=True, eq=False)
class Decoder:
    """A network and what it was made for. The network is put into eval mode and frozen.

    Attributes:
        settings: what it reads and gives.
        labels: what a semantic decoder tells apart, in the order of its outputs after background. For saliency the words that
            compete for a picture under the prior "match", none for the model's own objects.
        network: on features as `FeatureReader` gives them.
        model: the model that it was trained on, as `describe_model` says.
        training: how it was trained, free JSON.

    Raises:
        ModelError: parts that do not fit each other.
    """

    settings: DecoderSettings
    labels: tuple[Label, ...]
    network: LightDecoder
    model: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses parts that do not belong together."""
        if self.labels:
            Vocabulary(self.labels)  # refuses what would not be one
        elif self.settings.task == "semantic":
            raise ModelError("a semantic decoder without labels has nothing to tell apart: give its labels")
        expected = self.channels_of(self.model, self.settings), self.settings.width, outputs_of(self.settings, self.labels)
        found = self.network.channels, self.network.width, self.network.outputs
        if found != expected:
            raise ModelError(f"this network has channels, width and outputs {found} where its settings, model and labels say {expected}")
        self.network.eval().requires_grad_(False)

    @staticmethod
    def channels_of(model: Mapping[str, Any], settings: DecoderSettings) -> tuple[int, ...]:
        """Channels of a network's levels, on a model as `describe_model` says."""
        return tuple(count + settings.extra_channels for count in model["channels"])

    @classmethod
    def load(cls, folder: str | Path) -> "Decoder":
        """Reads a folder that `save` wrote, onto the CPU; "bundled" is the decoder that comes with the package.

        Raises:
            ModelError: there is none, or it is damaged, foreign or of another version.
        """
        place = ASSETS / STEM if str(folder) == BUNDLED else Path(folder)
        if str(folder) == BUNDLED and not place.is_dir():
            raise ModelError("no decoder comes with this version: train one with `maskwright train`, and give its folder")
        content = _read_document(place)
        try:
            settings = DecoderSettings(**content["settings"])
            labels = tuple(Label(name, tuple(synonyms)) for name, *synonyms in content["labels"])
            model = content["model"]
            channels = cls.channels_of(model, settings)
            network = LightDecoder(channels, width=settings.width, outputs=outputs_of(settings, labels))
            weights = safetensors.torch.load_file(place / f"{STEM}.safetensors")
            network.load_state_dict({name: values.float() for name, values in weights.items()})
            return cls(settings, labels, network, model, content["training"])
        except FileNotFoundError as error:
            raise ModelError(f"{str(place)!r} lacks {STEM}.safetensors: copy the whole folder, or train anew") from error
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError, MaskwrightError) as error:
            raise ModelError(f"the decoder in {str(place)!r} is damaged ({brief(error)}): copy the folder again, or train anew") from error

    def save(self, folder: str | Path, *, half: bool = False) -> tuple[Path, ...]:
        """Writes decoder.safetensors and, last, decoder.json; each whole or not at all. Files of these names are replaced.

        Args:
            folder: made if it is not there.
            half: store the weights in float16, in half the space; they are read as float32 again.

        Returns:
            The two paths.

        Raises:
            OutputError: the files cannot be written.
        """
        number = torch.float16 if half else torch.float32
        weights = {name: values.detach().to("cpu", number).contiguous() for name, values in self.network.state_dict().items()}
        content = safetensors.torch.save(weights)
        document = json.dumps(plain(self._document()), ensure_ascii=False, allow_nan=False, indent=1) + "\n"

        def write_weights(file: BinaryIO) -> None:
            file.write(content)

        def write_document(file: BinaryIO) -> None:
            file.write(document.encode("utf-8", "backslashreplace"))

        return write_files(folder, STEM, {".safetensors": write_weights, ".json": write_document})

    def refuse(self, backbone: Backbone) -> None:
        """Raises ModelError when this decoder was trained on another model than the one that is loaded."""
        self.refuse_model(describe_model(backbone, last_levels(backbone, self.settings.levels)))

    def refuse_model(self, model: Mapping[str, Any]) -> None:
        """`refuse` for a model that was described already.

        Revisions decide where both are known, else the names of the sources; the channels of the levels have to agree in any case.
        """
        revisions = self.model.get("revision"), model.get("revision")
        by = "revision" if all(revisions) else "source"
        for key in (by, "channels"):
            if self.model.get(key) != model.get(key):
                own, other = (f"{one.get('source')} ({key} {one.get(key)})" for one in (self.model, model))
                raise ModelError(f"this decoder was trained on {own}, not on {other}: load that model, or train a decoder for this one")

    def _document(self) -> dict[str, Any]:
        return {
            "format": f"{KIND} {NUMBER}", "settings": asdict(self.settings), "labels": [list(label.texts) for label in self.labels],
            "model": self.model, "training": self.training, "versions": package_versions(),
        }  # fmt: skip


def _read_document(folder: Path) -> dict[str, Any]:
    """The content of a folder's decoder.json.

    Raises:
        ModelError: there is none of this version.
    """
    path = folder / f"{STEM}.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{str(folder)!r} holds no decoder (no {path.name}): give a folder that `maskwright train` wrote") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(path)!r} cannot be read ({brief(error)}): copy the folder again, or train anew") from error
    kind, _, number = str(content.get("format") if isinstance(content, dict) else "").rpartition(" ")
    if kind != KIND:
        raise ModelError(f"{str(path)!r} does not describe a decoder: give a folder that `maskwright train` wrote")
    if number != str(NUMBER):
        raise ModelError(f"the decoder in {str(folder)!r} has format {number}, not {NUMBER}: use the version that wrote it, or train anew")
    return dict(content)
