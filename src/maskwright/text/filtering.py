"""The category filter: which labels are worth a pass on this picture (DiffSegmenter, "Which labels get a pass").

A label is kept when any of these holds:
    (a) a caption of the picture contains one of the words that a synonym table gives for it; no table by default, as published;
    (b) CLIP finds it nearly as fitting as the best label: similarity of "A photo of a {label}" at least 0.97 x the best, or what else
        suits a CLIP that is not OpenAI's; in mode "clip+crops", which is ours, with the picture and what it shows in parts;
    (c) CLIP's text encoder finds it close to a noun of a caption: cosine above 0.8.
Our defaults where the paper is silent: a label counts with the best of its texts; labels marked background are always kept,
and no label is measured against them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from maskwright.backbones.contract import ModelInfo
from maskwright.errors import SettingsError
from maskwright.text.captioning import Captioner
from maskwright.text.clip import Clip
from maskwright.text.filter_rules import COSINE, RATIO, best_of_labels, in_table, label_texts, near_best, near_nouns
from maskwright.text.nouns import candidate_nouns
from maskwright.vocabulary import Vocabulary

Model = TypeVar("Model", Clip, Captioner)
Mode = Literal["none", "clip", "clip+crops", "clip+caption", "given"]
PROMPT = "A photo of a {label}"
PREFIXES = ("", "A picture of")  # one caption each
CROP = 0.625  # of a picture's sides, that a crop in each corner keeps


@dataclass(frozen=True)
class FilterResult:
    """Which labels to read, and why.

    Attributes:
        kept: for each label of the vocabulary whether it gets a pass. Only "given" can drop every foreground label.
        reasons: for each label one phrase that says why it is kept or dropped.
        similarities: for each label the cosine of its best prompt with the picture, in mode "clip+crops" the mean of that and of the
            best crop's; empty where CLIP was not asked.
        captions: the captions that were read; empty where none were.
    """

    kept: tuple[bool, ...]
    reasons: tuple[str, ...]
    similarities: tuple[float, ...] = ()
    captions: tuple[str, ...] = ()


class CategoryFilter:
    """Decides for each picture which labels are kept.

    Modes: "none" keeps all; "clip" is rule (b); "clip+crops" is rule (b) for the mean of a label's similarity with the picture and with
    the crop that it fits best, so that a small thing counts as well (four overlapping crops, `CROP`); "clip+caption" is rules (a), (b)
    and (c); "given" keeps the labels that the caller names, for instance image-level labels (the weakly supervised setting).
    """

    def __init__(
        self,
        mode: Mode = "none",
        *,
        clip: Clip | None = None,
        captioner: Captioner | None = None,
        ratio: float | None = None,
        cosine: float = COSINE,
        table: Mapping[str, Sequence[str]] | None = None,
        given: Collection[str] | None = None,
    ) -> None:
        """Wires the models that the mode asks for; `from_pretrained` loads them.

        Args:
            mode: see above.
            clip: the model of rules (b) and (c).
            captioner: the model that writes the captions.
            ratio: rule (b), above 0 and at most 1; None for what the CLIP says suits it (`Clip.ratio`), else the paper's 0.97.
            cosine: rule (c), -1..1.
            table: rule (a), label name to further words; names that a vocabulary lacks are ignored.
            given: names or synonyms of the labels to keep, for every picture for which `keep` is given no others.

        Raises:
            SettingsError: an unknown mode, a missing model, a number out of range, or an option that the mode does not read.
        """
        _check(mode, ratio=ratio, cosine=cosine, table=table, given=given)
        if mode.startswith("clip"):
            _there(clip, mode)
        if mode == "clip+caption":
            _there(captioner, mode)
        self.mode: Mode = mode
        self.clip, self.captioner = clip, captioner
        told = clip.ratio if clip is not None else None
        self.ratio, self.cosine = ratio if ratio is not None else told or RATIO, cosine
        self.table = {
            name.casefold(): (words,) if isinstance(words, str) else tuple(words) for name, words in (table or {}).items()
        }
        self.given = given

    @classmethod
    def from_pretrained(
        cls,
        mode: Mode = "clip+caption",
        *,
        clip: Clip | str | Path | None = None,
        captioner: Captioner | str | Path | None = None,
        device: str = "cpu",
        offline: bool = False,
        ratio: float | None = None,
        cosine: float = COSINE,
        table: Mapping[str, Sequence[str]] | None = None,
        given: Collection[str] | None = None,
    ) -> "CategoryFilter":
        """Loads the models that the mode needs, and only those.

        Args:
            mode: this and the last four are as for the class.
            clip: a loaded model, a folder or a hub id; None is openai/clip-vit-large-patch14.
            captioner: a loaded model, a folder or a hub id; None is Salesforce/blip-image-captioning-large.
            device: a torch device for what is loaded here.
            offline: never ask the network.
            ratio: rule (b).
            cosine: rule (c).
            table: rule (a).
            given: for mode "given".

        Raises:
            ModelError: a model that cannot be found or loaded.
            SettingsError: as for the class.
        """
        _check(mode, ratio=ratio, cosine=cosine, table=table, given=given)  # before the long load
        if mode.startswith("clip") and not isinstance(clip, Clip):
            clip = Clip.from_pretrained(clip, device=device, offline=offline)
        if mode == "clip+caption" and not isinstance(captioner, Captioner):
            captioner = Captioner.from_pretrained(captioner, device=device, offline=offline)
        return cls(
            mode,
            clip=clip if isinstance(clip, Clip) else None,
            captioner=captioner if isinstance(captioner, Captioner) else None,
            ratio=ratio,
            cosine=cosine,
            table=table,
            given=given,
        )

    @classmethod
    def for_model(
        cls, info: ModelInfo, mode: Mode = "clip", *, clip: str | Path | None = None, captioner: Captioner | str | Path | None = None,
        device: str = "cpu", offline: bool = False,
    ) -> "CategoryFilter":  # fmt: skip
        """Loads the filter that suits a text-to-image model: but for captions with the CLIP that comes with it, if no other is named.

        Rule (c) was made for OpenAI's CLIP and for captions of photographs: mode "clip+caption" takes that one.

        Args:
            info: of the model.
            mode: this and the others as for `from_pretrained`.
            clip: see there.
            captioner: see there.
            device: see there.
            offline: see there.

        Raises:
            ModelError: as for `from_pretrained`.
            SettingsError: likewise.
        """
        own = suited_clip(info, clip, device=device, offline=offline) if mode in ("clip", "clip+crops") else None
        return cls.from_pretrained(mode, clip=own or clip, captioner=captioner, device=device, offline=offline)

    @property
    def settings(self) -> dict[str, object]:
        """What decides the outcome, for the record of a result."""
        found: dict[str, object] = {"mode": self.mode}
        if self.clip and self.mode.startswith("clip"):
            found |= {"ratio": self.ratio, "clip": self.clip.checkpoint.source, "clip_revision": self.clip.checkpoint.revision}
        if self.captioner and self.mode == "clip+caption":
            blip = self.captioner.checkpoint
            found |= {"cosine": self.cosine, "table": self.table, "blip": blip.source, "blip_revision": blip.revision}
        return found

    def keep(
        self, picture: npt.NDArray[np.uint8], vocabulary: Vocabulary, *, given: Collection[str] | None = None
    ) -> FilterResult:
        """Applies the filter to one picture.

        Args:
            picture: (H, W, 3) uint8 RGB.
            vocabulary: C labels.
            given: only with mode "given": names or synonyms of the labels to keep here; an empty list is a valid answer.

        Raises:
            VocabularyError: a given name that is no label.
            SettingsError: given names with another mode, or none with mode "given".
            ImageError: a picture that is no such array.
            ModelError: similarities that are not finite.
        """
        _check_given(given, self.mode)
        if self.mode == "none":
            return FilterResult((True,) * len(vocabulary), ("no filter",) * len(vocabulary))
        if self.mode == "given":
            return keep_given(vocabulary, self.given if given is None else given)
        similarities = self._similarities(picture, vocabulary)
        found = near_best(similarities, vocabulary, ratio=self.ratio)
        captions: tuple[str, ...] = ()
        if self.mode == "clip+caption":
            captions = self._captions(picture)
            found = self._evidence(captions, vocabulary) | found
        otherwise = "similarity too far below the best" + (", and no caption speaks for it" if captions else "")
        return _summary(vocabulary, found, otherwise, similarities=similarities, captions=captions)

    def _similarities(self, picture: npt.NDArray[np.uint8], vocabulary: Vocabulary) -> tuple[float, ...]:
        """Each label's best cosine with the picture, or the mean of that and of the crop that it fits best."""
        texts, owners = label_texts(vocabulary)
        prompts, clip = [PROMPT.format(label=text) for text in texts], _there(self.clip, self.mode)
        values = clip.similarities(picture, prompts)
        if self.mode == "clip+crops":
            values = (values + np.max([clip.similarities(crop, prompts) for crop in corner_crops(picture)], axis=0)) / 2
        return tuple(best_of_labels(values, owners).tolist())

    def _captions(self, picture: npt.NDArray[np.uint8]) -> tuple[str, ...]:
        """One caption for each of PREFIXES."""
        captioner = _there(self.captioner, self.mode)
        return tuple(captioner.continue_prompt(picture, prefix) for prefix in PREFIXES)

    def _evidence(self, captions: Sequence[str], vocabulary: Vocabulary) -> dict[int, str]:
        """Rules (a) and (c) on what BLIP wrote; the prefixes are ours and speak for no label."""
        clip = _there(self.clip, self.mode)
        written = [caption.removeprefix(prefix) for caption, prefix in zip(captions, PREFIXES, strict=True)]
        found = in_table(written, vocabulary, self.table)
        if nouns := candidate_nouns(written):
            texts, owners = label_texts(vocabulary)
            labels, features = clip.word_features(texts), clip.word_features(nouns)
            found |= near_nouns(labels, owners, features, nouns, cosine=self.cosine)
        return found


def suited_clip(info: ModelInfo, clip: str | Path | None = None, *, device: str = "cpu", offline: bool = False) -> Clip:
    """The CLIP that is named, else the one that comes with a text-to-image model, else openai/clip-vit-large-patch14.

    Args:
        info: of the model.
        clip: folder or hub id.
        device: a torch device.
        offline: never ask the network.

    Raises:
        ModelError: it cannot be found or loaded.
    """
    if clip is None and info.clip:
        return Clip.from_pretrained(info.clip, device=device, offline=offline).called(f"{info.source}/clip")
    return Clip.from_pretrained(clip, device=device, offline=offline)


def corner_crops(picture: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Four views (h, w, 3), one from each corner, of `CROP` of the sides of a picture (H, W, 3); they overlap in its middle."""
    height, width = (max(1, round(CROP * side)) for side in picture.shape[:2])
    return [rows[:, part] for rows in (picture[:height], picture[-height:]) for part in (slice(width), slice(-width, None))]


def keep_given(vocabulary: Vocabulary, names: Collection[str] | None) -> FilterResult:
    """Keeps the named labels (names or synonyms, in upper or lower case) and background.

    Raises:
        VocabularyError: a name that is no label.
        SettingsError: no names at all; an empty collection is fine.
    """
    if names is None:
        raise SettingsError("filter 'given' needs the names of the labels to keep: pass given=[...]")
    return _summary(vocabulary, {vocabulary.index(name): "given" for name in names}, "not given")


def _summary(
    vocabulary: Vocabulary,
    found: Mapping[int, str],
    otherwise: str,
    *,
    similarities: tuple[float, ...] = (),
    captions: tuple[str, ...] = (),
) -> FilterResult:
    """Background and what was found are kept."""
    kept = tuple(label.background or i in found for i, label in enumerate(vocabulary))
    reasons = ("background" if label.background else found.get(i, otherwise) for i, label in enumerate(vocabulary))
    return FilterResult(kept, tuple(reasons), similarities, captions)


def _there(model: Model | None, mode: str) -> Model:
    """A model that a mode reads, or a SettingsError where it is missing."""
    if model is None:
        raise SettingsError(f"filter '{mode}' needs its models: use CategoryFilter.from_pretrained('{mode}')")
    return model


def _check(
    mode: str, *, ratio: float | None, cosine: float, table: Mapping[str, Sequence[str]] | None, given: Collection[str] | None
) -> None:
    """Refuses settings that cannot work."""
    if mode not in get_args(Mode):
        raise SettingsError(f"unknown filter '{mode}': choose one of {', '.join(get_args(Mode))}")
    if ratio is not None and not 0 < ratio <= 1:
        raise SettingsError(f"the filter's ratio is {ratio}: choose a number above 0 and at most 1, by default {RATIO}")
    if not -1 <= cosine <= 1:
        raise SettingsError(f"the filter's cosine is {cosine}: choose a number from -1 to 1, by default {COSINE}")
    if table and mode != "clip+caption":
        raise SettingsError(f"filter '{mode}' reads no synonym table: use 'clip+caption', or write synonyms as cat|kitten")
    _check_given(given, mode)


def _check_given(given: Collection[str] | None, mode: str) -> None:
    if given is not None and mode != "given":
        raise SettingsError(f"filter '{mode}' reads no given names: use filter 'given'")
    if isinstance(given, str):
        raise SettingsError(f"given is one text: pass a list of label names, as in ['{given}']")
