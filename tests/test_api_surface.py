"""The public names. Whoever changes this list changes what users rely on: say so in CHANGELOG.md."""

import subprocess
import sys

import pytest

import maskwright

NAMES = [
    "DatasetError",
    "DiffSegmenter",
    "Discoverer",
    "Grouper",
    "ImageError",
    "Label",
    "MaskDiffusion",
    "MaskwrightError",
    "ModelError",
    "Picture",
    "Segmentation",
    "Segmenter",
    "SettingsError",
    "Synthesizer",
    "Vocabulary",
    "VocabularyError",
    "__version__",
    "load_backbone",
]


def test_the_public_names() -> None:
    assert sorted(maskwright.__all__) == NAMES
    assert dir(maskwright) == sorted(maskwright.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_there_and_documented(name: str) -> None:
    thing = getattr(maskwright, name)
    assert isinstance(thing, str) or (thing.__doc__ and thing.__name__ == name)


def test_other_names_list_the_public_ones() -> None:
    with pytest.raises(AttributeError, match=r"maskwright has no 'Segmentor': it has .*Segmenter"):
        _ = maskwright.Segmentor


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'diffusers', 'transformers', 'PIL', 'scipy', 'matplotlib', 'typer', 'rich'}"
    command = f"import sys, maskwright; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False, env={"PYTHONPATH": "src"})
    assert (done.returncode, done.stderr) == (0, "")
