"""maskwright reads segmentation out of frozen text-to-image diffusion models: words, or nothing, in; masks out."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskwright.backbones.loading import load_backbone as load_backbone
    from maskwright.discovery.discoverer import Discoverer as Discoverer
    from maskwright.discovery.synthesis import Synthesizer as Synthesizer
    from maskwright.errors import DatasetError as DatasetError
    from maskwright.errors import ImageError as ImageError
    from maskwright.errors import MaskwrightError as MaskwrightError
    from maskwright.errors import ModelError as ModelError
    from maskwright.errors import SettingsError as SettingsError
    from maskwright.errors import VocabularyError as VocabularyError
    from maskwright.grouping import Grouper as Grouper
    from maskwright.images import Picture as Picture
    from maskwright.methods.diffsegmenter.method import DiffSegmenter as DiffSegmenter
    from maskwright.methods.maskdiffusion.method import MaskDiffusion as MaskDiffusion
    from maskwright.segmentation import Segmentation as Segmentation
    from maskwright.segmenter import Segmenter as Segmenter
    from maskwright.vocabulary import Label as Label
    from maskwright.vocabulary import Vocabulary as Vocabulary

__version__ = "0.1.0"

_HOME = {
    "DatasetError": "errors",
    "DiffSegmenter": "methods.diffsegmenter.method",
    "Discoverer": "discovery.discoverer",
    "Grouper": "grouping",
    "ImageError": "errors",
    "Label": "vocabulary",
    "MaskDiffusion": "methods.maskdiffusion.method",
    "MaskwrightError": "errors",
    "ModelError": "errors",
    "Picture": "images",
    "Segmentation": "segmentation",
    "Segmenter": "segmenter",
    "SettingsError": "errors",
    "Synthesizer": "discovery.synthesis",
    "Vocabulary": "vocabulary",
    "VocabularyError": "errors",
    "load_backbone": "backbones.loading",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: `import maskwright` itself stays instant."""
    if name not in _HOME:
        raise AttributeError(f"maskwright has no {name!r}: it has {', '.join(_HOME)}")
    return getattr(importlib.import_module(f"maskwright.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
