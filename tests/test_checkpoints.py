import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from maskwright.errors import ImageError, ModelError
from maskwright.text.checkpoints import BLIP, CLIP, Checkpoint, load_checkpoint
from tests.tiny_text_models import SIDE, build_blip, build_clip, picture


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def blip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_blip(tmp_path_factory.mktemp("blip"))


@pytest.fixture
def copy(clip_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip_folder, tmp_path / "copy"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


def put_in_cache(cache: Path, source: str, commit: str, files: Path, *, ref: str | None = None) -> Path:
    """Lays files out as huggingface_hub does after a download."""
    repo = cache / f"models--{source.replace('/', '--')}"
    if ref:
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / ref).write_text(commit)
    return Path(shutil.copytree(files, repo / "snapshots" / commit))


def message(source: str | Path, *, family: object = CLIP, device: str = "cpu") -> str:
    with pytest.raises(ModelError) as caught:
        load_checkpoint(family, source, device=device, offline=True)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    return text


@pytest.mark.parametrize("kind", ["clip", "blip"])
def test_a_folder_loads_frozen_and_silently(
    kind: str, clip_folder: Path, blip_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    family, folder = (CLIP, clip_folder) if kind == "clip" else (BLIP, blip_folder)
    checkpoint = load_checkpoint(family, folder, offline=True)
    assert not checkpoint.model.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in checkpoint.model.parameters())
    assert (checkpoint.source, checkpoint.revision) == (str(folder), None)
    assert capfd.readouterr() == ("", "")
    assert before == (logging.get_verbosity(), logging.is_progress_bar_enabled())


def test_half_precision_weights_load_as_float32(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(CLIP, build_clip(tmp_path, dtype=torch.float16), offline=True)
    assert {p.dtype for p in checkpoint.model.parameters()} == {torch.float32}


def test_plain_vocabulary_files_serve_as_tokenizer(blip_folder: Path, copy: Path, tmp_path: Path) -> None:
    tokenizer = load_checkpoint(CLIP, copy, offline=True).tokenizer
    model = json.loads((copy / "tokenizer.json").read_text())["model"]
    (copy / "vocab.json").write_text(json.dumps(model["vocab"]))
    (copy / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(merge) + "\n" for merge in model["merges"]))
    (copy / "tokenizer.json").unlink()
    assert load_checkpoint(CLIP, copy, offline=True).tokenizer("dog café")["input_ids"] == tokenizer("dog café")["input_ids"]

    blip = Path(shutil.copytree(blip_folder, tmp_path / "blip"))
    tokenizer, text = load_checkpoint(BLIP, blip, offline=True).tokenizer, "Dogs on grass"
    (blip / "vocab.txt").write_text("\n".join(sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)))
    (blip / "tokenizer.json").unlink()
    assert load_checkpoint(BLIP, blip, offline=True).tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]


@pytest.mark.parametrize("family", [CLIP, BLIP])
def test_default_checkpoints_come_from_the_cache_at_their_pinned_commit(
    family: object, clip_folder: Path, blip_folder: Path, cache: Path
) -> None:
    files = clip_folder if family is CLIP else blip_folder
    put_in_cache(cache, family.default, "a" * 40, files, ref="main")
    assert f"hf download {family.default} --revision {family.revision}" in message(family.default, family=family)
    put_in_cache(cache, family.default, family.revision, files)
    checkpoint = load_checkpoint(family, offline=True)
    assert (checkpoint.source, checkpoint.revision) == (family.default, family.revision)


def test_other_ids_come_from_the_cache_at_main_or_the_revision_asked_for(clip_folder: Path, cache: Path) -> None:
    put_in_cache(cache, "someone/clip", "b" * 40, clip_folder, ref="main")
    assert load_checkpoint(CLIP, "someone/clip", offline=True).revision == "b" * 40
    put_in_cache(cache, "someone/clip", "c" * 40, clip_folder)
    assert load_checkpoint(CLIP, "someone/clip", offline=True, revision="c" * 40).revision == "c" * 40


def test_an_uncached_id_fails_at_once_when_offline(cache: Path) -> None:
    start = time.perf_counter()
    assert "someone/clip is not in the local cache" in message("someone/clip")
    assert time.perf_counter() - start < 2


def test_a_partial_cache_is_said_to_be_partial(clip_folder: Path, cache: Path) -> None:
    (put_in_cache(cache, "someone/clip", "b" * 40, clip_folder, ref="main") / "model.safetensors").unlink()
    assert "only in part" in message("someone/clip")


def test_a_cache_that_cannot_be_read(cache: Path) -> None:
    (cache / "models--someone--clip" / "refs" / "main").mkdir(parents=True)
    assert "cannot read the hub's cache for someone/clip" in message("someone/clip")


def test_an_unreachable_hub_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # what the environment variable sets: requests fail at once
    with pytest.raises(ModelError, match=r"cannot download someone/clip.*local folder"):
        load_checkpoint(CLIP, "someone/clip")


@pytest.mark.parametrize("source", ["/no/such/folder", "./nowhere", "../nowhere", "~/nowhere-at-all", "~nobody-here/x", "a/b/c"])
def test_a_missing_folder(source: str) -> None:
    assert f"no folder {source}" in message(source)


@pytest.mark.parametrize("name", ["-a/b", "a--b/c", "a..b", "x" * 200])
def test_a_name_that_the_hub_refuses(name: str) -> None:
    assert "neither a folder nor a hub id" in message(name)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"])
def test_a_folder_that_lacks_a_file(name: str, copy: Path) -> None:
    (copy / name).unlink()
    assert f"lacks {name.replace('model.', '*.')}" in message(copy)


def test_pickled_weights_are_not_read(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert "lacks *.safetensors" in message(copy)


def test_the_wrong_model(clip_folder: Path, blip_folder: Path, copy: Path) -> None:
    assert "type 'blip', not CLIP" in message(blip_folder)
    assert "type 'clip', not BLIP" in message(clip_folder, family=BLIP)
    (copy / "config.json").write_text("[]")
    assert "no JSON object" in message(copy)


def test_damaged_files(copy: Path) -> None:
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "cannot load CLIP" in message(copy)
    (copy / "config.json").write_text("{")
    assert "cannot read" in message(copy)


def test_missing_weights_are_not_invented(copy: Path) -> None:
    state = load_file(copy / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    assert "1 weights are missing, the first is visual_projection.weight" in message(copy)


def test_a_device_that_is_not_there(clip_folder: Path) -> None:
    assert "choose device 'cpu'" in message(clip_folder, device="warp")


@pytest.mark.parametrize("size", [(3, 30), (30, 3), (1, 1), (40, 40)])
def test_pixel_values_of_any_size(size: tuple[int, int], clip_folder: Path, blip_folder: Path) -> None:
    for family, folder in ((CLIP, clip_folder), (BLIP, blip_folder)):
        flat = np.full((*size, 3), (255, 0, 128), dtype=np.uint8)
        pixels = load_checkpoint(family, folder, offline=True).pixel_values([flat, picture(0)])
        assert pixels.shape == (2, 3, SIDE, SIDE) and pixels.dtype == torch.float32
        mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
        colour = (torch.tensor([1, 0, 128 / 255]) - mean) / std
        assert torch.allclose(pixels[0], colour[:, None, None].expand(3, SIDE, SIDE), atol=1e-3)


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 8)), np.zeros((8, 8, 3)), np.zeros((3, 8, 8), np.uint8), np.zeros((0, 8, 3), np.uint8), "a.png"]
)
def test_pictures_of_another_shape_or_type(wrong: object) -> None:
    with pytest.raises(ImageError, match="pass the pixels of"):
        Checkpoint(None, None, None, "", None).pixel_values([wrong])


def test_importing_is_light() -> None:
    heavy = "{'torch', 'transformers', 'huggingface_hub', 'diffusers'} & set(sys.modules)"
    code = f"import sys, maskwright.text.filtering, maskwright.text.captioning; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(filter(None, sys.path))})
