"""Builds a CLIP tokenizer from a word list's own words: every word is one token."""

import functools
import itertools
import json
from collections import Counter
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from maskwright.datasets.rich_captions import caption_words
from maskwright.datasets.word_list import find_word_list, read_word_list
from maskwright.errors import SettingsError

LENGTH = 32  # tokens of a prompt of the bundled model, begin and end included
BEGIN, END, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"


def known_words(words: str | Path = "scenes") -> list[str]:
    """Every single word that captions of a list can hold, in small letters, sorted."""
    return caption_words(read_word_list(find_word_list(words)))


@functools.cache
def _plain() -> CLIPTokenizer:
    """A CLIP tokenizer that merges nothing, for the way in which CLIP cuts texts."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + SUFFIX for letter in letters), BEGIN, END]
    return CLIPTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[])


def split(word: str) -> list[str]:
    """A word as CLIP cuts it before any merge, in letters that stand for bytes: one piece mostly, "t-shirt" is three, each digit is one."""
    backend = _plain().backend_tokenizer
    return [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(word))]


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges under which each piece of these words (see `split`) becomes one token; unknown words fall back to letters.

    The most frequent pair first, ties by the alphabet, so that every machine learns the same; the trainer of the tokenizers
    library breaks ties differently from run to run, and a network trained with one order cannot be read with another.
    """
    pieces = {piece: [*piece[:-1], piece[-1] + SUFFIX] for word in words for piece in split(word)}
    merges: list[tuple[str, str]] = []
    while counts := Counter(pair for parts in pieces.values() for pair in itertools.pairwise(parts)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        for parts in pieces.values():
            place = 0
            while place < len(parts) - 1:
                if (parts[place], parts[place + 1]) == best:
                    parts[place : place + 2] = ["".join(best)]
                place += 1
    return merges


def build_tokenizer(words: str | Path = "scenes", length: int = LENGTH) -> CLIPTokenizer:
    """A CLIPTokenizer whose vocabulary is 256 bytes, 256 word-final bytes, the merges, begin and end."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn_merges(known_words(words))
    pieces = [*letters, *(letter + SUFFIX for letter in letters), *("".join(merge) for merge in merges), BEGIN, END]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)  # type: ignore[arg-type]


def knows(tokenizer: CLIPTokenizer, words: str | Path) -> bool:
    """Whether every word of the list's captions is one token, or one for each piece that CLIP cuts it into."""
    return all(len(tokenizer(word, add_special_tokens=False).input_ids) == len(split(word)) for word in known_words(words))


def tokenizer_of(
    folder: Path, words: str | Path = "scenes", *, length: int = LENGTH, init: Path | None = None
) -> CLIPTokenizer:  # fmt: skip
    """The tokenizer of a training, kept in `folder`.

    It is the one that the training began with; else that of the model it starts from, if that knows all words and is as long;
    else a new one.

    Raises:
        SettingsError: the training began with other words.
    """
    if (folder / "tokenizer").is_dir():
        kept: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        if not knows(kept, words):
            raise SettingsError(f"the training in {folder} began with other words: choose another --out, with --init {folder / 'model'}")
        return kept
    tokenizer = CLIPTokenizer.from_pretrained(init / "tokenizer") if init else None
    if tokenizer is None or tokenizer.model_max_length != length or not knows(tokenizer, words):
        tokenizer = build_tokenizer(words, length)
    save_tokenizer(tokenizer, folder / "tokenizer")
    return tokenizer


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Saves in the hub's layout; vocab.json and merges.txt too, which older loaders want and transformers 5 leaves out."""
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
