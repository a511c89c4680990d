"""Writes maskwright.json beside a model: the words it knows, what to say of others, and settings that suit it.

Settings are data: a JSON file with one object for each method, chosen on the tuning split: with `maskwright-recipe tune` for
methods that read words, with `maskwright evaluate --split tuning --sweep` for the others.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from maskwright.backbones.catalog import catalog
from maskwright.backbones.hub import CLIP, SIDECAR
from maskwright.datasets.scenes import open_scenes
from maskwright.datasets.word_list import BUNDLED, find_word_list, read_word_list
from maskwright.errors import SettingsError
from maskwright.exports.files import replacing
from maskwright_recipes.networks import usual_size
from maskwright_recipes.tokenizer import known_words

# Among the settings of methods: what suits the CLIP beside the model, and the model when it draws.
FILTER, SYNTHESIS = "category-filter", "synthesis"
SETTINGS = Path(__file__).parent / "settings"
ADVICE = (
    "It was trained on drawn scenes with {objects} objects and {grounds} grounds ({where} them); "
    "photographs and other words want --model sd15"
)
PATTERNS = ("a {{}} on {ground}", "a photograph of a {{}} on {ground}", "a picture of a {{}} on {ground}", "{ground} with a {{}}",
            "a {{}} and {ground}")  # fmt: skip


def read_settings(words: str | Path, file: Path | None = None) -> dict[str, Any]:
    """Settings by method: of a file, else those that were chosen for a bundled list, its own or that of the same size of networks.

    Raises:
        SettingsError: a file that is no JSON object of objects.
    """
    if file is None:
        listed = find_word_list(words)
        alike = "scenes" if usual_size(read_word_list(listed).side) == "small" else "scenes-full"
        file = SETTINGS / f"{next((name for name, path in BUNDLED.items() if path == listed), alike)}.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"the settings {file} cannot be read: {error}") from error
    if not isinstance(settings, dict) or not all(isinstance(row, dict) for row in settings.values()):
        raise SettingsError(f'the settings {file} are no object of objects: write {{"diffsegmenter": {{"timesteps": [300]}}}}')
    return settings


def synthesis(grounds: list[str]) -> dict[str, Any]:
    """How the model draws best: always on a ground, for a caption of one thing alone makes it add others that nobody named."""
    templates = [pattern.format(ground=ground) for ground in grounds for pattern in PATTERNS]
    return {"plain": [], "templates": templates, "steps": 25, "guidance": 4.0}


def write_sidecar(folder: Path, words: str | Path = "scenes", *, settings: Path | None = None) -> str:
    """Writes the file into a model folder; returns the revision, which tells versions of the weights apart.

    What the settings say of the category filter goes beside the CLIP in that folder, what they say of drawing over the recipe's own.
    """
    listed, revision = open_scenes(words).words, weights_digest(folder)
    where = f"`maskwright models show {folder.name}` lists" if folder.name in catalog() else "maskwright.json beside it names"
    methods = dict(read_settings(words, settings))
    suits, drawing = methods.pop(FILTER, {}), methods.pop(SYNTHESIS, {})
    chosen = settings is not None or find_word_list(words) in BUNDLED.values()  # for these very weights, not for a list alike
    if chosen and suits and (folder / CLIP).is_dir():
        edit_json(folder / CLIP / SIDECAR, **suits)  # of a list of one's own it keeps what its training found
    content = {
        "revision": revision,
        "advice": ADVICE.format(objects=len(listed.objects), grounds=len(listed.grounds), where=where),
        "labels": [name for word in listed.all for name in word.names],
        "objects": ["|".join(word.names) for word in listed.objects],
        "words": known_words(words),
        "methods": methods,
        "synthesis": {**synthesis([ground.name for ground in listed.grounds]), **(drawing if chosen else {})},
    }
    (folder / "maskwright.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return revision


def weights_digest(folder: Path) -> str:
    """Twelve hex digits of the hash over all weights but those of a CLIP beside them: the revision of a model that has no repository."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        if file.relative_to(folder).parts[0] != CLIP:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def edit_json(path: Path, **changes: Any) -> None:
    """Sets keys of a JSON file, whole or not at all; None removes."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    content = {key: value for key, value in content.items() if key not in changes or value is not None}
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
