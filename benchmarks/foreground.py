"""How well the bundled model's attention tells objects from ground: the sum of the object words' maps, completed, cut by Otsu.

Command: `python benchmarks/foreground.py` (two cores: half a minute). Mean IoU of the foreground over 200 benchmark scenes, for the
caption's words and no, one or two hops of self-attention; then the same with random weights in U-Net and text encoder.
"""

import numpy as np
import numpy.typing as npt
from scenes import randomise

from maskwright.backbones.loading import load_backbone
from maskwright.backbones.unet import UNetBackbone
from maskwright.datasets.scenes import benchmark, load_words
from maskwright.images import to_tensor, upsample
from maskwright.methods.diffsegmenter.method import DiffSegmenter
from maskwright.text.planning import plan_text
from maskwright.vocabulary import Vocabulary

METHOD = DiffSegmenter(prompting="joint", timesteps=(300,), emphasis=1.0)
BINS = 128


def otsu_threshold(values: npt.NDArray[np.float32]) -> float:
    """The threshold with the largest variance between the two classes (Otsu, 1979)."""
    counts, edges = np.histogram(values, BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    below, mass = counts.cumsum()[:-1], (counts * centres).cumsum()
    share = below / counts.sum()
    between = (mass[-1] / counts.sum() * share - mass[:-1] / counts.sum()) ** 2 / (share * (1 - share))
    return float(centres[between.argmax()])


def foreground_iou(backbone: UNetBackbone, hops: int, scenes: int = 200) -> float:
    """Mean over scenes of the foreground's IoU."""
    objects, found = len(load_words().objects), []
    for scene in benchmark(scenes):
        plan = plan_text(backbone.text, Vocabulary.parse(list(scene.words)), METHOD.wording(), "joint")
        latents = backbone.encode_image(to_tensor([scene.image]))
        reading = backbone.read(latents, METHOD.probe(), condition=plan.passes[0].condition)
        words = reading.cross_attention.maps(plan.keys, factors=(1,))[0].maps[:, :-1]  # the ground's word is last
        completed = reading.self_attention.complete(words.sum(1, keepdim=True), hops=hops)
        score = upsample(completed[0], scene.labels.shape)[0].numpy()
        predicted, truth = score > otsu_threshold(score), scene.labels < objects
        found.append((predicted & truth).sum() / (predicted | truth).sum())
    return float(np.mean(found))


def main() -> None:
    """Command line."""
    backbone = load_backbone("sticker")
    for state in ("trained", "untrained"):
        for hops in (0, 1, 2):
            print(f"{state:10s} {hops} hops: foreground IoU {100 * foreground_iou(backbone, hops):.1f}", flush=True)
        randomise(backbone, 0)


if __name__ == "__main__":
    main()
