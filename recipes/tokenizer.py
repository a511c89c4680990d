"""Builds the bundled model's CLIP tokenizer from the scenes' own words: every word is one token."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from maskwright.datasets.captions import TEMPLATE_WORDS
from maskwright.datasets.scenes import load_words

LENGTH = 32  # tokens of a prompt, begin and end included
BEGIN, END, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"


def known_words() -> list[str]:
    """Every single word that captions can hold, sorted."""
    names = [name for word in load_words().all for name in (word.name, *word.synonyms)]
    return sorted({part for name in names for part in name.split()} | set(TEMPLATE_WORDS))


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges under which each of these words becomes one token; unknown words fall back to pieces."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=SUFFIX))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=10_000, min_frequency=1, end_of_word_suffix=SUFFIX, show_progress=False)
    tokenizer.train_from_iterator(words, trainer)
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def build_tokenizer() -> CLIPTokenizer:
    """A CLIPTokenizer whose vocabulary is 256 bytes, 256 word-final bytes, the merges, begin and end."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn_merges(known_words())
    pieces = [*letters, *(letter + SUFFIX for letter in letters), *("".join(merge) for merge in merges), BEGIN, END]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Saves in the hub's layout; vocab.json and merges.txt too, which older loaders want and transformers 5 leaves out."""
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
