"""Measures settings of a method on the tuning split of the bundled scenes, every combination of the values given.

Command: `python -m recipes.tune --method diffsegmenter --try 'timesteps=[[50],[100],[200]]' --try 'hops=[0,1]'`.
Prints mean IoU with the caption's words and with all words competing, best first by their sum.
"""

import argparse
import itertools
import json

from maskwright.backbones.loading import load_backbone
from maskwright.evaluation.scenes import run_benchmark
from maskwright.segmenter import Segmenter


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sticker")
    parser.add_argument("--method", default="diffsegmenter")
    parser.add_argument("--try", dest="tries", action="append", default=[], metavar="KEY=[VALUES]")
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--split", default="tuning")
    options = parser.parse_args()
    keys, values = [], []
    for entry in options.tries:
        key, _, listed = entry.partition("=")
        keys.append(key)
        values.append(json.loads(listed))
    backbone = load_backbone(options.model)
    rows = []
    for combination in itertools.product(*values):
        settings = dict(zip(keys, combination, strict=True))
        segmenter = Segmenter(backbone, options.method, settings=settings, background="none")
        given = run_benchmark(segmenter, limit=options.limit, split=options.split, labels="caption").miou
        competing = run_benchmark(segmenter, limit=options.limit, split=options.split, labels="all").miou
        rows.append((given + competing, given, competing, settings))
        print(f"{given:.3f} {competing:.3f} {json.dumps(settings)}", flush=True)
    print("\ncaption   all   (best first)")
    for _, given, competing, settings in sorted(rows, key=lambda row: -row[0])[:10]:
        print(f"  {given:.3f}  {competing:.3f}  {json.dumps(settings)}")


if __name__ == "__main__":
    main()
