"""Writes maskwright.json beside the bundled model: the words it knows, what to say of others, and settings that suit it.

The settings were chosen on the tuning split with `python -m recipes.tune`.
"""

import json
from pathlib import Path
from typing import Any

from maskwright.datasets.scenes import load_words
from recipes.tokenizer import known_words

ADVICE = (
    "It was trained on drawn scenes with 48 objects and 8 grounds (`maskwright models show sticker` lists them); "
    "photographs and other words want --model sd15"
)
SETTINGS: dict[str, dict[str, Any]] = {
    "diffsegmenter": {"prompting": "joint", "timesteps": [300], "fusion": [[1, 0.9], [2, 0.1]]},
    "maskdiffusion": {
        "timesteps": [100], "noise": True, "attention": "softmax", "attention_factors": [1], "attention_grid": 1, "feature_factors": [2, 1],
    },
}  # fmt: skip


def write_sidecar(folder: Path, *, revision: str) -> None:
    """Writes the file into a model folder; `revision` tells versions of the weights apart."""
    names = [name for word in load_words().all for name in (word.name, *word.synonyms)]
    content = {"revision": revision, "advice": ADVICE, "labels": names, "words": known_words(), "methods": SETTINGS}
    (folder / "maskwright.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
