"""`maskwright doctor`: whether this machine has what the package needs."""

import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata, util
from pathlib import Path

import typer

from maskwright import __version__
from maskwright.cli.environment import prepare
from maskwright.cli.guard import FAILED, guarded

OK, WARN, FAIL = "ok", "warn", "fail"
Finding = tuple[str, str, str]  # state, subject, what was found
PYTHON = (3, 11)
ROOM = 6e9  # bytes that one Stable Diffusion model and its download may take


@guarded
def doctor() -> None:
    """Check packages, device, disk and the bundled model.

    Exit code 1 when something has to be mended; nothing is downloaded.
    """
    prepare(offline=True)
    failed = 0
    for check in CHECKS:
        for state, subject, text in _outcome(check):
            failed += state == FAIL
            print(f"{state:<5} {subject:<16} {text}", flush=True)
    if failed:
        raise typer.Exit(FAILED)


def _outcome(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; an exception is one too, since a broken installation is what a doctor is for."""
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - see above
        text = " ".join(str(error).split())[:300]
        yield FAIL, check.__name__.removeprefix("_"), text or type(error).__name__


def _python() -> Iterator[Finding]:
    fits = sys.version_info >= PYTHON
    version = ".".join(map(str, sys.version_info[:3]))
    yield (OK if fits else FAIL), "python", version if fits else f"{version}, but {'.'.join(map(str, PYTHON))} or newer is needed"
    yield OK, "maskwright", f"{__version__} in {Path(__file__).parents[1]}"


def _packages() -> Iterator[Finding]:
    """Each package that maskwright asks for, as installed."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, _requirements()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield FAIL, requirement.name, f"is missing: pip install '{requirement.name}{requirement.specifier}'"
            continue
        if requirement.specifier.contains(found, prereleases=True):
            yield OK, requirement.name, found
        else:
            wanted = f"{requirement.name}{requirement.specifier}"
            yield FAIL, requirement.name, f"{found}, but {requirement.specifier} is needed: pip install '{wanted}'"


def _requirements() -> list[str]:
    """What the installed package asks for, or pyproject.toml where maskwright runs from its sources."""
    try:
        return metadata.requires("maskwright") or []
    except metadata.PackageNotFoundError:
        import tomllib

        text = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
        return list(tomllib.loads(text)["project"]["dependencies"])


def _torchvision() -> Iterator[Finding]:
    if util.find_spec("torchvision") is None:
        yield OK, "torchvision", "not installed, and not needed"
    else:
        advice = "is installed, not needed, and breaks transformers where it does not fit torch"
        yield WARN, "torchvision", f"{advice}: pip uninstall torchvision"


def _device() -> Iterator[Finding]:
    import torch

    from maskwright.backbones.devices import LARGE, choose_device, choose_dtype

    device = choose_device("auto")
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory
        yield OK, f"cuda:{number}", f"{torch.cuda.get_device_name(number)}, {memory / 1e9:.0f} GB"
    if torch.backends.mps.is_available():
        yield OK, "mps", "available"
    yield OK, "cpu", f"{torch.get_num_threads()} threads"
    small, large = (str(choose_dtype("auto", device, parameters=size)).removeprefix("torch.") for size in (0, LARGE))
    formats = small if small == large else f"{small} for the bundled model, {large} for large ones"
    yield OK, "auto", f"{device}, {formats}"


def _cache() -> Iterator[Finding]:
    """Disk room where models from the hub go."""
    import os
    import shutil

    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    standing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(standing).free
    room = f"{free / 1e9:.1f} GB free in {cache}"
    if not os.access(standing, os.W_OK):
        yield WARN, "model cache", f"{cache} cannot be written: set HF_HOME to another folder to fetch models"
    elif free < ROOM:
        yield WARN, "model cache", f"{room}, and a Stable Diffusion model may take {ROOM / 1e9:.0f}: set HF_HOME to a larger disk"
    else:
        yield OK, "model cache", room


def _model() -> Iterator[Finding]:
    """Loads the bundled model and segments a bundled scene."""
    from maskwright.backbones.loading import load_backbone

    began = time.perf_counter()
    backbone = load_backbone("sticker", offline=True)
    from maskwright.evaluation.scenes import run_benchmark
    from maskwright.segmenter import Segmenter

    segmenter = Segmenter(backbone, background="none")
    yield OK, "bundled model", f"loaded in {time.perf_counter() - began:.1f} s"
    result = run_benchmark(segmenter, limit=1)
    yield OK, "a scene", f"segmented in {result.seconds:.2f} s, {result.accuracy:.0%} of its pixels right"


CHECKS = (_python, _packages, _torchvision, _device, _cache, _model)
