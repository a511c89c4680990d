"""The methods: one folder each, one line each in the lists below."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from maskwright.errors import SettingsError

Methods = Mapping[str, tuple[str, str]]  # name: module and class

METHODS: Methods = {  # driven by text: labels in, score maps out
    "diffsegmenter": ("maskwright.methods.diffsegmenter.method", "DiffSegmenter"),
    "maskdiffusion": ("maskwright.methods.maskdiffusion.method", "MaskDiffusion"),
    "word-shares": ("maskwright.methods.word_shares.method", "WordShares"),
    "foreground-first": ("maskwright.methods.foreground_first.method", "ForegroundFirst"),
    "diffusion-classifier": ("maskwright.methods.diffusion_classifier.method", "DiffusionClassifier"),
}
ASKED_AGAIN = frozenset({"diffusion-classifier"})  # these make passes of their own for every label, on top of the reading
READ_ONCE: Methods = {name: place for name, place in METHODS.items() if name not in ASKED_AGAIN}  # the reading is all that these need
REGION_METHODS: Methods = {  # no words: regions out
    "maskdiffusion-unsupervised": ("maskwright.methods.maskdiffusion_unsupervised.method", "MaskDiffusionUnsupervised"),
    "diffseg": ("maskwright.methods.diffseg.method", "DiffSeg"),
    "diffcut": ("maskwright.methods.diffcut.method", "DiffCut"),
    "kmeans": ("maskwright.methods.kmeans.method", "KMeans"),
}
DISCOVERY_METHODS: Methods = {  # what stands out: a word's foreground out
    "attentioncut": ("maskwright.methods.attentioncut.method", "AttentionCut"),
    "daam": ("maskwright.methods.daam.method", "Daam"),
}
DECODER_METHODS: Methods = {  # a trained decoder on frozen features: one object out, or labels
    "diffusionseg": ("maskwright.methods.diffusionseg.method", "DiffusionSeg"),
    "diffusionseg-semantic": ("maskwright.methods.diffusionseg.method", "DiffusionSegSemantic"),
}
ALL_METHODS: Methods = {**METHODS, **REGION_METHODS, **DISCOVERY_METHODS, **DECODER_METHODS}


def make_method(name: str, settings: Mapping[str, Any] | None = None, *, among: Methods = METHODS) -> Any:
    """A method by name, with settings over its defaults.

    Args:
        name: as on the command line.
        settings: by the names of the method's fields.
        among: the kind of method that is wanted.

    Raises:
        SettingsError: for an unknown method or setting, listing what there is.
    """
    if name not in among:
        raise SettingsError(f"unknown method {name!r}: choose one of {', '.join(among)}")
    module, attribute = among[name]
    kind = getattr(importlib.import_module(module), attribute)
    known = {field.name for field in dataclasses.fields(kind)}
    settings = dict(settings or {})
    if unknown := sorted(set(settings) - known):
        raise SettingsError(f"{name} has no setting {', '.join(unknown)}: it has {', '.join(sorted(known))}")
    return kind(**{key: _as_tuples(value) for key, value in settings.items()})


def suited_method(
    method: Any, settings: Mapping[str, Any] | None, *, suited: Mapping[str, Mapping[str, Any]], among: Methods
) -> Any:
    """A method with the settings that suit a model, and a user's own over them.

    Args:
        method: its name, or a settings object, which stays as it is.
        settings: by name of setting.
        suited: the model's (`ModelInfo.methods`), by name of method.
        among: the kind of method that is wanted.

    Raises:
        SettingsError: an unknown method or setting, or settings beside an object.
    """
    if isinstance(method, str):
        return make_method(method, {**suited.get(method, {}), **(settings or {})}, among=among)
    if settings:
        raise SettingsError("settings go into the method object itself when one is given")
    return method


def _as_tuples(value: Any) -> Any:
    """Lists, as data files hold them, to tuples, as frozen settings want them."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list | tuple) else value
