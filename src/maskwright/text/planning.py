"""From a vocabulary to what the U-Net is told and what its queries are asked: the three prompting modes.

shared: one neutral pass, every label re-keyed by its own prompt. per-label: one pass per label under its own prompt
(the published DiffSegmenter). joint: one pass under one prompt that names all labels (the published MaskDiffusion).
Per-label scoring is shared scoring on a reading that was conditioned on that label, so one function of a method serves all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.backbones.text_tower import TextTower
from maskwright.errors import SettingsError, VocabularyError
from maskwright.readings.keys import TextKeys, Token, merge_padding
from maskwright.text.spans import extend_over_participle, token_span
from maskwright.text.wording import PROMPTINGS, Prompting, Wording
from maskwright.vocabulary import Vocabulary

Continue = Callable[[str], str]  # a prompt to the same prompt, continued by a captioner


@dataclass(frozen=True, eq=False)
class Pass:
    """One U-Net pass: its condition (1, tokens, width), and the labels that are scored on it."""

    condition: Tensor
    labels: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TextPlan:
    """Keys of all labels, and the passes to make."""

    keys: TextKeys
    passes: tuple[Pass, ...]


def plan_text(
    tower: TextTower, vocabulary: Vocabulary, wording: Wording, prompting: Prompting, *, continue_prompt: Continue | None = None
) -> TextPlan:
    """Encodes a vocabulary.

    Args:
        tower: the model's text side.
        vocabulary: at least one label.
        wording: the method's settings.
        prompting: "shared", "per-label" or "joint".
        continue_prompt: continues each label's prompt with a caption; not for joint prompts.

    Raises:
        SettingsError: for an unknown mode.
        VocabularyError: for a label that does not fit or has no token.
    """
    if prompting not in PROMPTINGS:
        raise SettingsError(f"unknown prompting {prompting!r}: use {', '.join(PROMPTINGS)}")
    if prompting == "joint":
        return _plan_joint(tower, vocabulary, wording)
    embeddings, ends, columns = _encode_labels(tower, vocabulary, wording, continue_prompt)
    if wording.padding == "merged":
        kept, log_weight = merge_padding(embeddings, ends)
    else:
        kept, log_weight = embeddings, torch.zeros(embeddings.shape[:2])
    called = tuple(label.texts for label in vocabulary)
    keys = TextKeys(kept, log_weight, columns, 1 + tower.count_tokens(wording.before), called)
    if prompting == "shared":
        neutral = tower.encode([wording.neutral]).embeddings
        return TextPlan(keys, (Pass(neutral, tuple(range(len(vocabulary)))),))
    first_text = [label[0][0][0] for label in columns]  # a label is read under its name; synonyms are re-keyed on that pass
    return TextPlan(keys, tuple(Pass(embeddings[text : text + 1], (number,)) for number, text in enumerate(first_text)))


def _encode_labels(
    tower: TextTower, vocabulary: Vocabulary, wording: Wording, continue_prompt: Continue | None
) -> tuple[Tensor, tuple[int, ...], tuple[tuple[tuple[Token, ...], ...], ...]]:
    """One prompt per name: embeddings (texts, length, width), positions of the end tokens, and each label's columns."""
    names = [(number, name) for number, label in enumerate(vocabulary) for name in label.texts]
    texts = [wording.write(name) for _, name in names]
    if continue_prompt is not None:
        texts = [_shorten(tower, continue_prompt(text), text) for text in texts]
    encoding = tower.encode(texts)
    columns: list[list[tuple[Token, ...]]] = [[] for _ in vocabulary]
    emphasised: list[Token] = []
    for row, (number, name) in enumerate(names):
        own, positions = _positions(encoding.offsets[row], texts[row], wording.start, name, wording)
        columns[number].append(tuple((row, position) for position in positions))
        emphasised += [(row, position) for position in own]
    embeddings = _emphasise(tower, encoding.embeddings, emphasised, wording)
    return embeddings, encoding.ends, tuple(tuple(label) for label in columns)


def _positions(
    offsets: tuple[tuple[int, int], ...], text: str, start: int, name: str, wording: Wording
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token positions of a name that begins at a character: all of its own, which are emphasised, and those that make its map.

    The two differ where a participle joins the map, or the last token alone makes it: neither changes what the model is told.

    Raises:
        VocabularyError: a name without tokens.
    """
    end = start + len(name)
    own = token_span(offsets, start, end)
    if not own:
        raise VocabularyError(f"the model's tokenizer makes nothing of the label {name!r}: use another word")
    positions = token_span(offsets, start, extend_over_participle(text, end)) if wording.participle else own
    return own, positions[-1:] if wording.tokens == "last" else positions


def _shorten(tower: TextTower, text: str, least: str) -> str:
    """Drops words from the end of a continued prompt until it fits the model; never below the prompt itself."""
    while len(text) > len(least) and tower.count_tokens(text) > tower.room:
        text = max(text.rpartition(" ")[0], least, key=len)
    return text


def _emphasise(tower: TextTower, embeddings: Tensor, tokens: list[Token], wording: Wording) -> Tensor:
    """Moves the labels' tokens away from the empty prompt: e' = e0 + w (e - e0); the other tokens stay as they are."""
    if wording.emphasis == 1.0:
        return embeddings
    plain = tower.encode([""]).embeddings[0]
    changed = embeddings.clone()
    for text, position in dict.fromkeys(tokens):
        changed[text, position] = plain[position] + wording.emphasis * (embeddings[text, position] - plain[position])
    return changed


def _plan_joint(tower: TextTower, vocabulary: Vocabulary, wording: Wording) -> TextPlan:
    """One pass under all names; what does not fit one prompt goes into further ones, whose tokens are concatenated."""
    names = [(number, name) for number, label in enumerate(vocabulary) for name in label.texts]
    groups: list[list[tuple[int, str]]] = [[]]
    for entry in names:
        candidate = wording.write(wording.joiner.join(name for _, name in [*groups[-1], entry]))
        if groups[-1] and tower.count_tokens(candidate) > tower.room:
            groups.append([])
        groups[-1].append(entry)
    texts = [wording.write(wording.joiner.join(name for _, name in group)) for group in groups]
    encoding = tower.encode(texts)
    columns: list[list[tuple[Token, ...]]] = [[] for _ in vocabulary]
    emphasised: list[Token] = []
    for row, group in enumerate(groups):
        start = wording.start
        for number, name in group:
            own, positions = _positions(encoding.offsets[row], texts[row], start, name, wording)
            columns[number].append(tuple((row, position) for position in positions))
            emphasised += [(row, position) for position in own]
            start += len(name) + len(wording.joiner)
    embeddings = _emphasise(tower, encoding.embeddings, emphasised, wording)
    condition = embeddings.flatten(0, 1)[None]  # 1 groups*length width
    length = embeddings.shape[1]
    joined = tuple(tuple(tuple((0, text * length + place) for text, place in name) for name in label) for label in columns)
    keys = TextKeys(condition, torch.zeros(condition.shape[:2]), joined, names=tuple(label.texts for label in vocabulary))
    return TextPlan(keys, (Pass(condition, tuple(range(len(vocabulary)))),))
