"""What a reading costs over the work that must be done anyway, on a full-size Stable Diffusion 1.5 with random weights.

Command: `python benchmarks/reading.py` (two cores, 8 GB of memory, about four minutes). Prints ratios of medians, all measured in one run,
interleaved. Absolute seconds are printed for orientation only. The floor is the VAE's encoding and the plain U-Net up to the last layer
that the method needs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from published_protocol import published_pass
from stable_diffusion import LABELS, random_stable_diffusion

from maskwright.backbones.unet import UNetBackbone
from maskwright.methods.diffsegmenter.method import DiffSegmenter
from maskwright.methods.maskdiffusion.method import MaskDiffusion
from maskwright.passes import run_passes
from maskwright.text.planning import TextPlan, plan_text
from maskwright.vocabulary import Vocabulary

Job = Callable[[], Any]


def measure(jobs: dict[str, Job], *, runs: int) -> dict[str, float]:
    """Median seconds of each job; the jobs take turns, after one warm-up each."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(runs + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            if turn:
                seconds[name].append(time.perf_counter() - began)
        print(f"  turn {turn} of {runs} done", flush=True)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_memory(job: Job) -> float:
    """Largest resident memory during a job, in bytes (Linux: the high-water mark is reset first)."""
    Path("/proc/self/clear_refs").write_text("5")
    job()
    status = Path("/proc/self/status").read_text()
    return float(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def plain_part(backbone: UNetBackbone, pixels: torch.Tensor, stop_at: str, condition: torch.Tensor) -> None:
    """VAE encoding and the untouched U-Net, left when it reaches a module: the work that no reading can avoid."""

    class _Reached(Exception):
        pass

    def leave(*_: Any) -> None:
        raise _Reached

    handle = backbone.unet.get_submodule(stop_at).register_forward_pre_hook(leave)
    try:
        with torch.inference_mode():
            latents = backbone.encode_image(pixels)
            backbone.unet(latents, torch.tensor([100]), encoder_hidden_states=condition)
    except _Reached:
        pass
    finally:
        handle.remove()


def plain_unet(backbone: UNetBackbone, latents: torch.Tensor, condition: torch.Tensor) -> None:
    """One whole U-Net pass."""
    with torch.inference_mode():
        backbone.unet(latents, torch.tensor([100]), encoder_hidden_states=condition)


def read_and_score(backbone: UNetBackbone, pixels: torch.Tensor, method: Any, plan: TextPlan, *, chunk: int = 1) -> None:
    """What the segmenter does with a picture whose labels are encoded: encode it, read it, score it."""
    run_passes(backbone, backbone.encode_image(pixels), method, method.probe(), plan, seed=0, chunk=chunk)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    options = parser.parse_args()
    backbone = random_stable_diffusion(options.dtype)
    print(f"SD 1.5-shaped, random weights, 512 px, {backbone.dtype}, {torch.get_num_threads()} threads, {backbone.device}", flush=True)
    diffsegmenter, maskdiffusion = DiffSegmenter(), MaskDiffusion(prompting="shared")

    def plan(method: Any, labels: int) -> TextPlan:
        return plan_text(backbone.text, Vocabulary.parse(LABELS[:labels]), method.wording(), method.prompting)

    pixels = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = backbone.encode_image(pixels)
    plans = {count: plan(diffsegmenter, count) for count in (1, 21, 171)}
    neutral = plans[1].passes[0].condition.to(backbone.dtype)
    plain = peak_memory(lambda: plain_unet(backbone, latents, neutral))
    read = peak_memory(lambda: run_passes(backbone, latents, diffsegmenter, diffsegmenter.probe(), plans[21], seed=0, chunk=1))
    reading = backbone.read(latents, diffsegmenter.probe(), condition=neutral)
    fresh = iter(f"a word never seen before {number}" for number in range(1000))

    def new_label() -> None:
        vocabulary = Vocabulary.parse([next(fresh)])
        diffsegmenter.score(reading, plan_text(backbone.text, vocabulary, diffsegmenter.wording(), "shared").keys)

    last_cross = [site for site in backbone.sites if site.kind == "cross"][-1].path
    last_feature = [site for site in backbone.sites if site.kind == "feature" and site.factor == 2][-1].path
    one_label = DiffSegmenter(prompting="per-label")
    own_prompt = plan_text(backbone.text, Vocabulary.parse(LABELS[:1]), one_label.wording(), "per-label")
    masked = plan(maskdiffusion, 21)
    seconds = measure({
        "floor of DiffSegmenter": lambda: plain_part(backbone, pixels, last_cross, neutral),
        "floor of MaskDiffusion": lambda: plain_part(backbone, pixels, last_feature, neutral),
        "DiffSegmenter, 1 label": lambda: read_and_score(backbone, pixels, diffsegmenter, plans[1]),
        "DiffSegmenter, 21 labels": lambda: read_and_score(backbone, pixels, diffsegmenter, plans[21]),
        "DiffSegmenter, 171 labels": lambda: read_and_score(backbone, pixels, diffsegmenter, plans[171]),
        "MaskDiffusion, 21 labels": lambda: read_and_score(backbone, pixels, maskdiffusion, masked),
        "U-Net pass": lambda: plain_unet(backbone, latents, neutral),
        "new label on a reading": new_label,
        "the same, text encoded before": lambda: diffsegmenter.score(reading, plans[1].keys),
        "per-label mode, one label": lambda: run_passes(
            backbone, latents, one_label, one_label.probe(), own_prompt, seed=0, chunk=1
        ),
        "published protocol, one label": lambda: published_pass(backbone, latents, own_prompt.passes[0].condition),
    }, runs=options.runs)  # fmt: skip
    for name, value in seconds.items():
        print(f"{name:35s} {value:8.3f} s")
    rows = [
        ("DiffSegmenter, 21 labels / floor", seconds["DiffSegmenter, 21 labels"] / seconds["floor of DiffSegmenter"], 1.05),
        ("MaskDiffusion, 21 labels / floor", seconds["MaskDiffusion, 21 labels"] / seconds["floor of MaskDiffusion"], 1.05),
        ("171 labels / 1 label", seconds["DiffSegmenter, 171 labels"] / seconds["DiffSegmenter, 1 label"], 1.10),
        ("new label on a reading / U-Net pass", seconds["new label on a reading"] / seconds["U-Net pass"], 0.02),
        ("  without encoding its text", seconds["the same, text encoded before"] / seconds["U-Net pass"], 0.02),
        ("per-label / published protocol", seconds["per-label mode, one label"] / seconds["published protocol, one label"], 0.40),
    ]
    rows.append(("peak memory, reading / plain pass", read / plain, 1.15))
    print(f"\n{'ratio':40s} measured  target")
    for name, value, target in rows:
        print(f"{name:40s} {value:8.3f}  {target:6.2f}  {'met' if value <= target else f'missed by {value / target - 1:.0%}'}")


if __name__ == "__main__":
    main()
