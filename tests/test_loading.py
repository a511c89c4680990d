import io
import json
import logging
import shutil
import socket
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import constants, snapshot_download
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

import maskwright
from maskwright.backbones.catalog import catalog, find_row
from maskwright.backbones.hub import weight_files
from maskwright.backbones.loading import fetch, load_backbone
from maskwright.discovery.synthesis import SynthesisSettings
from maskwright.errors import ModelError, SettingsError
from maskwright.quiet import quiet
from maskwright.readings.probe import Probe, Select
from tests.tiny import Passes, build_parts, build_tiny_vae, build_unet, digest, random, save_folder

UNCACHED = "nobody/no-such-model"
WEIGHTS = ("diffusion_pytorch_model", "diffusion_pytorch_model", "model")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every attempt to reach the network fails at once and is noted."""
    attempts: list[str] = []

    def refuse(*args: Any, **_: Any) -> None:
        attempts.append(str(args))
        raise OSError("network is unreachable")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return attempts


def cached(cache: Path, folder: Path, *, repository: str = UNCACHED, commit: str = "c" * 40) -> Path:
    """A folder put into the hub's cache, as a download would."""
    home = cache / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    return Path(shutil.copytree(folder, home / "snapshots" / commit))


class Hub:
    """A hub with one model: lists folders' files and copies what matches, into the cache as the real one does."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.files, self.asked = cache, dict[str, Path](), 0
        self.fetched: list[str] = []

    def holds(self, *folders: Path) -> None:
        self.files = {path.relative_to(folder).as_posix(): path for folder in folders for path in folder.rglob("*") if path.is_file()}

    def weights(self) -> list[str]:
        return [Path(name).name for name in self.fetched if name.endswith(".safetensors")]

    def model_info(self, repository: str, **_: Any) -> SimpleNamespace:
        self.asked += 1
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in self.files])

    def snapshot_download(self, repository: str, *, allow_patterns: list[str] | None = None, **named: Any) -> str:
        if allow_patterns is None:
            return snapshot_download(repository, **named)
        self.fetched = [name for name in self.files if any(fnmatch(name, pattern) for pattern in allow_patterns)]
        home = self.cache / f"models--{repository.replace('/', '--')}"
        for name in self.fetched:
            target = home / "snapshots" / ("c" * 40) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.files[name], target)
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / "main").write_text("c" * 40)
        return str(home / "snapshots" / ("c" * 40))


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The real hub's place is taken by one of our own."""
    made = Hub(cache)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: made)
    monkeypatch.setattr("huggingface_hub.snapshot_download", made.snapshot_download)
    return made


def one_line(error: pytest.ExceptionInfo[ModelError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


class TestCatalogue:
    def test_rows_are_complete(self) -> None:
        for name, row in catalog().items():
            assert row.name == name and row.title and row.licence and row.native % 8 == 0
            assert row.prediction in ("epsilon", "v_prediction")
            assert bool(row.repository) != bool(row.bundled)
            assert not row.repository or (row.repository.count("/") == 1 and len(row.revision) == 40)
        assert catalog()["sticker"].folder is not None and catalog()["sd15"].folder is None

    def test_an_unknown_name_lists_what_there_is(self) -> None:
        for ask in (find_row, load_backbone):
            with pytest.raises(ModelError, match="unknown model 'sd3': choose one of sticker, sticker-full, sd14, sd15") as error:
                ask("sd3")
            one_line(error)

    def test_a_catalogue_name_loads_its_row(self, folder: Path, cache: Path, no_network: list[str]) -> None:
        row = catalog()["sd15"]
        cached(cache, folder, repository=row.repository, commit=row.revision)
        backbone = load_backbone("sd15", device="cpu", offline=True)
        assert (backbone.info.name, backbone.info.source) == ("sd15", row.repository)
        assert (backbone.info.revision, backbone.info.licence) == (row.revision, row.licence)
        assert not no_network

    def test_sd_turbo_draws_in_few_steps_without_guidance(self, folder: Path, cache: Path, no_network: list[str]) -> None:
        row = catalog()["sd-turbo"]
        snapshot = cached(cache, folder, repository=row.repository, commit=row.revision)
        backbone = load_backbone("sd-turbo", device="cpu", offline=True)
        drawing = SynthesisSettings.suited(backbone.info.synthesis)
        assert (drawing.steps, drawing.guidance) == (4, 1.0)
        with Passes(backbone.unet) as passes:
            drawn = backbone.generate(["a dog"])
        assert (passes.count, passes.rows) == (4, 4)
        assert torch.equal(drawn, backbone.generate(["a dog"], steps=4, guidance=1.0))
        (snapshot / "maskwright.json").write_text(json.dumps({"synthesis": {"steps": 2, "plain": ["{}"]}}))
        synthesis = load_backbone("sd-turbo", device="cpu", offline=True).info.synthesis
        assert synthesis == {"steps": 2, "guidance": 1.0, "plain": ["{}"]}

    def test_a_folder_does_not_shadow_a_catalogue_name(
        self, folder: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "sd14").mkdir()
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ModelError, match="CompVis/stable-diffusion-v1-4 is not in the local cache"):
            load_backbone("sd14", offline=True)
        with pytest.raises(ModelError, match="sd14 lacks unet"):
            load_backbone("./sd14", offline=True)


class TestFolders:
    def test_a_folder_in_the_hubs_layout(self, folder: Path) -> None:
        backbone = load_backbone(folder, device="cpu")
        assert (backbone.info.name, backbone.info.source, backbone.info.native) == (str(folder), str(folder), 16)
        assert backbone.dtype == torch.float32 and backbone.device.type == "cpu"
        assert not any(p.requires_grad for part in (backbone.unet, backbone.vae, backbone.text.encoder) for p in part.parameters())
        assert not any(part.training for part in (backbone.unet, backbone.vae, backbone.text.encoder))
        reading = backbone.read(random(1, 4, 8, 8), Probe(cross=Select()), condition=backbone.text.encode(["a dog"]).embeddings)
        assert len(reading.cross_layers) == 7

    def test_the_weights_are_those_that_were_saved(self, folder: Path) -> None:
        parts, backbone = build_parts(), load_backbone(str(folder), device="cpu")
        loaded = {"unet": backbone.unet, "vae": backbone.vae, "text_encoder": backbone.text.encoder}
        for name, module in loaded.items():
            for key, value in parts[name].state_dict().items():
                assert torch.equal(module.state_dict()[key], value), (name, key)

    def test_a_half_precision_variant(self, tmp_path: Path) -> None:
        folder = save_folder(tmp_path / "half", variant="fp16", vae=build_tiny_vae())
        assert [path.name for path in (folder / "unet").glob("*.safetensors")] == ["diffusion_pytorch_model.fp16.safetensors"]
        backbone = load_backbone(folder, device="cpu")
        assert backbone.dtype == torch.float32
        assert torch.equal(backbone.unet.conv_in.weight, build_unet().conv_in.weight.half().float())

    @pytest.mark.parametrize(("dtype", "rounded"), [("auto", False), ("float32", False), ("bfloat16", True)])
    def test_float32_takes_the_full_weights_where_both_lie(self, copy: Path, tmp_path: Path, dtype: str, rounded: bool) -> None:
        half = save_folder(tmp_path / "half", variant="fp16")
        for file in half.glob("*/*.fp16.safetensors"):
            shutil.copy(file, copy / file.relative_to(half))
        backbone, parts = load_backbone(copy, device="cpu", dtype=dtype), build_parts()
        for name, module in {"unet": backbone.unet, "vae": backbone.vae, "text_encoder": backbone.text.encoder}.items():
            for key, value in parts[name].state_dict().items():
                expected = value.half() if rounded and value.is_floating_point() else value
                assert torch.equal(module.state_dict()[key], expected.to(module.state_dict()[key])), (name, key)

    def test_other_number_formats(self, folder: Path) -> None:
        backbone = load_backbone(folder, device="cpu", dtype="bfloat16")
        assert {part.dtype for part in (backbone.unet, backbone.vae, backbone.text.encoder)} == {torch.bfloat16}
        with pytest.raises(SettingsError, match="float16 is slow and inexact on a CPU"):
            load_backbone(folder, device="cpu", dtype="float16")
        with pytest.raises(SettingsError, match="unknown device 'gpu'"):
            load_backbone(folder, device="gpu")

    def test_a_sidecar_is_read(self, copy: Path) -> None:
        methods = {"diffsegmenter": {"fusion": [[1, 1.0]]}}
        (copy / "maskwright.json").write_text(json.dumps({"words": ["dog"], "revision": "abc", "advice": "x", "methods": methods}))
        info = load_backbone(copy, device="cpu").info
        assert (info.words, info.revision, info.advice, info.methods) == (("dog",), "abc", "x", methods)

    def test_diffusers_loads_what_we_load(self, folder: Path) -> None:
        """The layout that the tests write is the hub's own."""
        with quiet(diffusers, transformers):
            pipeline = StableDiffusionPipeline.from_pretrained(
                folder, safety_checker=None, feature_extractor=None, image_encoder=None, local_files_only=True
            )
        assert type(pipeline.unet).__name__ == "UNet2DConditionModel"


class TestBrokenFolders:
    def cut(copy: Path) -> None:
        file = copy / "unet" / "diffusion_pytorch_model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])

    def forget_a_weight(copy: Path) -> None:
        file = copy / "vae" / "diffusion_pytorch_model.safetensors"
        weights = load_file(file)
        del weights["decoder.conv_in.weight"]
        save_file(weights, file, metadata={"format": "pt"})

    def forget_text(copy: Path) -> None:
        file = copy / "text_encoder" / "model.safetensors"
        weights = load_file(file)
        del weights[next(key for key in weights if "final_layer_norm.weight" in key)]
        save_file(weights, file, metadata={"format": "pt"})

    def pickle(copy: Path) -> None:
        file = copy / "text_encoder" / "model.safetensors"
        torch.save(load_file(file), copy / "text_encoder" / "pytorch_model.bin")
        file.unlink()

    def write(name: str, text: str) -> Callable[[Path], None]:
        return lambda copy: (copy / name).write_text(text) and None

    def remove(name: str) -> Callable[[Path], None]:
        return lambda copy: shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (remove("vae"), "lacks vae: give a Stable Diffusion"),
            (remove("unet/config.json"), "lacks config.json"),
            (write("unet/config.json", "{"), "cannot be read"),
            (write("unet/config.json", "[]"), "no JSON object"),
            (write("unet/config.json", '{"_class_name": "UNet2DModel"}'), "not a Stable Diffusion 1.x or 2.x model"),
            (write("vae/config.json", '{"_class_name": "VQModel"}'), "autoencoder VQModel"),
            (write("scheduler/scheduler_config.json", '{"_class_name": "os"}'), "scheduler os"),
            (write("tokenizer/tokenizer.json", "{}"), "cannot be loaded"),
            (write("maskwright.json", "nonsense"), "maskwright.json cannot be read"),
            (lambda copy: (copy / "text_encoder_2").mkdir(), "other families are not supported yet"),
            (cut, "cannot be loaded"),
            (forget_a_weight, "lacks 1 weights, the first is decoder.conv_in.weight"),
            (forget_text, "lacks 1 weights"),
            (pickle, "no safetensors for text_encoder"),
        ],
    )  # fmt: skip
    def test_each_is_one_line_that_says_what_is_wrong(self, copy: Path, damage: Callable[[Path], None], message: str) -> None:
        damage(copy)
        with pytest.raises(ModelError, match=message) as error:
            load_backbone(copy, device="cpu")
        assert str(copy) in one_line(error)

    def test_folders_that_are_not_there(self) -> None:
        for name in ("/no/such/folder", "./no-such-folder", "../a/b/c", "~/no/such"):
            with pytest.raises(ModelError, match="no such model folder"):
                load_backbone(name, offline=True)

    @pytest.mark.parametrize("wrong", [None, 3, np.zeros(3), ["sticker"]])
    def test_things_that_are_no_model(self, wrong: Any) -> None:
        with pytest.raises(ModelError, match="is no model: give a name, a folder"):
            load_backbone(wrong)


class TestHub:
    def test_offline_never_tries(self, cache: Path, no_network: list[str]) -> None:
        for name in (UNCACHED, f"{UNCACHED}@main", "sd15"):
            with pytest.raises(ModelError, match="not in the local cache and offline is on") as error:
                load_backbone(name, offline=True)
            one_line(error)
        assert not no_network

    def test_offline_by_the_hubs_own_setting(self, cache: Path, no_network: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ModelError, match="offline is on"):
            fetch(UNCACHED)
        assert not no_network

    def test_without_a_network_one_line_at_once(self, cache: Path, no_network: list[str]) -> None:
        began = time.perf_counter()
        with pytest.raises(ModelError, match="the hub cannot be reached: connect once") as error:
            load_backbone(UNCACHED)
        assert no_network and time.perf_counter() - began < 5
        assert "use --model sticker" in one_line(error)

    def test_the_cache_comes_first(self, cache: Path, folder: Path, no_network: list[str]) -> None:
        snapshot = cached(cache, folder)
        assert fetch(UNCACHED) == snapshot
        info = load_backbone(UNCACHED, device="cpu").info
        assert (info.source, info.revision) == (UNCACHED, "c" * 40)
        assert not no_network

    @pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
    def test_a_download_that_stopped_half_way_is_not_taken_for_the_model(
        self, cache: Path, folder: Path, no_network: list[str], part: str
    ) -> None:
        for file in (cached(cache, folder) / part).glob("*.safetensors"):
            file.unlink()
        with pytest.raises(ModelError, match="not in the local cache"):
            fetch(UNCACHED, offline=True)

    @pytest.mark.parametrize("wrong", ["bad id/model", "owner/na..me", "owner/-x-"])
    def test_ids_that_cannot_be(self, cache: Path, no_network: list[str], wrong: str) -> None:
        with pytest.raises(ModelError) as error:
            load_backbone(wrong, offline=True)
        one_line(error)
        assert not no_network

    def test_one_set_of_weights_is_chosen(self) -> None:
        both = ["unet/a.safetensors", "unet/a.fp16.safetensors", "unet/a.non_ema.safetensors", "unet/a.bin", "vae/b.bin"]
        both += ["text_encoder/m.safetensors", "text_encoder/m.non_ema.safetensors", "safety_checker/m.safetensors"]
        assert weight_files(both) == {"unet": ["unet/a.fp16.safetensors"], "vae": [], "text_encoder": ["text_encoder/m.safetensors"]}
        full = weight_files([*both, "vae/b.fp16.safetensors"], full=True)
        assert full == {"unet": ["unet/a.safetensors"], "vae": ["vae/b.fp16.safetensors"], "text_encoder": ["text_encoder/m.safetensors"]}

    def test_float32_asks_the_hub_for_full_weights(self, cache: Path, tmp_path: Path, hub: "Hub") -> None:
        hub.holds(save_folder(tmp_path / "both"), save_folder(tmp_path / "half", variant="fp16"))
        load_backbone(UNCACHED, device="cpu")
        assert sorted(hub.weights()) == sorted(f"{part}.fp16.safetensors" for part in WEIGHTS)
        load_backbone(UNCACHED, device="cpu", dtype="bfloat16", offline=True)
        assert hub.asked == 1
        full = load_backbone(UNCACHED, device="cpu", dtype="float32")
        assert hub.asked == 2 and sorted(hub.weights()) == sorted(f"{part}.safetensors" for part in WEIGHTS)
        assert torch.equal(full.unet.conv_in.weight, build_unet().conv_in.weight)

    def test_without_a_network_float32_takes_what_is_cached(self, cache: Path, tmp_path: Path, no_network: list[str]) -> None:
        snapshot = cached(cache, save_folder(tmp_path / "half", variant="fp16"))
        assert fetch(UNCACHED, full=True, offline=True) == snapshot and not no_network
        assert fetch(UNCACHED, full=True) == snapshot and no_network

    def test_other_families_are_refused_before_they_are_fetched(self, cache: Path, tmp_path: Path, hub: "Hub") -> None:
        folder = save_folder(tmp_path / "xl")
        shutil.copytree(folder / "text_encoder", folder / "text_encoder_2")
        hub.holds(folder)
        with pytest.raises(ModelError, match=r"has a second text encoder, .* other families are not supported yet") as error:
            load_backbone(UNCACHED)
        assert UNCACHED in one_line(error) and hub.asked == 1 and not hub.fetched


class TestPipelines:
    @pytest.fixture
    def pipeline(self) -> StableDiffusionPipeline:
        return StableDiffusionPipeline(
            **build_parts(), safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )  # fmt: skip

    def test_it_is_read_where_and_as_it_is(self, pipeline: StableDiffusionPipeline) -> None:
        pipeline.unet.requires_grad_(True)
        strides = [parameter.stride() for parameter in pipeline.unet.parameters()]
        before = digest(pipeline.unet)
        backbone = load_backbone(pipeline)
        assert backbone.unet is pipeline.unet and backbone.info.source == "StableDiffusionPipeline"
        probe = Probe(cross=Select(), self_attention=Select(factors="finest"))
        backbone.read(backbone.encode_image(random(1, 3, 16, 16)), probe, condition=backbone.text.encode(["a dog"]).embeddings)
        assert digest(pipeline.unet) == before
        assert all(parameter.requires_grad for parameter in pipeline.unet.parameters())
        assert [parameter.stride() for parameter in pipeline.unet.parameters()] == strides

    def test_what_cannot_be_read_is_refused(self, pipeline: StableDiffusionPipeline) -> None:
        pipeline.unet.train()
        with pytest.raises(ModelError, match="training mode"):
            load_backbone(pipeline)
        pipeline.unet.eval()
        add_hook_to_module(pipeline.unet, ModelHook())
        with pytest.raises(ModelError, match="without CPU offload"):
            load_backbone(pipeline)
        pipeline.unet = torch.nn.Linear(1, 1)
        with pytest.raises(ModelError, match=r"StableDiffusionPipeline is not a Stable Diffusion 1\.x or 2\.x pipeline"):
            load_backbone(pipeline)


class TestQuiet:
    def test_loading_prints_nothing_and_restores_the_libraries(
        self, copy: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        config = json.loads((copy / "unet" / "config.json").read_text())
        (copy / "unet" / "config.json").write_text(json.dumps(config | {"nobody_knows": 1}))
        libraries: list[Any] = [diffusers_logging, transformers_logging]
        before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        for name in ("diffusers", "transformers"):
            logging.getLogger(name).addHandler(handler)
        try:
            load_backbone(copy, device="cpu", dtype="bfloat16")
        finally:
            for name in ("diffusers", "transformers"):
                logging.getLogger(name).removeHandler(handler)
        out = capfd.readouterr()
        assert (out.out, out.err, stream.getvalue()) == ("", "", "")
        assert [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries] == before

    def test_also_after_a_failure(self, copy: Path) -> None:
        before = transformers_logging.get_verbosity(), diffusers_logging.get_verbosity()
        (copy / "tokenizer" / "tokenizer.json").write_text("{}")
        with pytest.raises(ModelError):
            load_backbone(copy, device="cpu")
        assert (transformers_logging.get_verbosity(), diffusers_logging.get_verbosity()) == before
        assert transformers_logging.is_progress_bar_enabled() and diffusers_logging.is_progress_bar_enabled()


def test_the_public_name_is_the_same_function() -> None:
    assert maskwright.load_backbone is load_backbone
