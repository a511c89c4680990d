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
SHARED: dict[str, Any] = {"timesteps": [200], "noise": True}  # one pass of the model serves all methods without words
SETTINGS: dict[str, dict[str, Any]] = {
    "diffsegmenter": {"prompting": "joint", "timesteps": [300], "fusion": [[1, 0.9], [2, 0.1]]},
    "maskdiffusion": {
        "timesteps": [100], "noise": True, "attention": "softmax", "attention_factors": [1], "attention_grid": 1, "feature_factors": [2, 1],
    },
    "maskdiffusion-unsupervised": {**SHARED, "feature_factors": [2, 1]},
    "kmeans": {**SHARED, "feature_factors": [2, 1]},
    "diffseg": {**SHARED, "threshold": 0.16},
    "diffcut": {**SHARED, "stage": "up", "factors": "finest"},
    "attentioncut": {
        "timesteps": [200], "attention_factors": [1], "grid_factor": 1, "merge": "columns", "seed_share": 0.5, "refined_weight": 10.0,
    },
}  # fmt: skip
PATTERNS = ("a {{}} on {ground}", "a photograph of a {{}} on {ground}", "a picture of a {{}} on {ground}", "{ground} with a {{}}",
            "a {{}} and {ground}")  # fmt: skip


def synthesis() -> dict[str, Any]:
    """How the model draws best: always on a ground, for a caption of one thing alone makes it add others that nobody named."""
    templates = [pattern.format(ground=ground.name) for ground in load_words().grounds for pattern in PATTERNS]
    return {"plain": [], "templates": templates, "steps": 25, "guidance": 4.0}


def write_sidecar(folder: Path, *, revision: str) -> None:
    """Writes the file into a model folder; `revision` tells versions of the weights apart."""
    names = [name for word in load_words().all for name in (word.name, *word.synonyms)]
    objects = ["|".join((word.name, *word.synonyms)) for word in load_words().objects]
    content = {
        "revision": revision, "advice": ADVICE, "labels": names, "objects": objects, "words": known_words(), "methods": SETTINGS,
        "synthesis": synthesis(),
    }  # fmt: skip
    (folder / "maskwright.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
