"""Exports the trained model into the package, with its words and settings.

Command: `python -m recipes.publish [--out runs/sticker] [--to src/maskwright/assets/sticker]`.
"""

import argparse
import hashlib
import shutil
from pathlib import Path

from recipes.sidecar import write_sidecar
from recipes.text_to_image import export_checkpoint


def weights_digest(folder: Path) -> str:
    """Twelve hex digits of the hash over all weights: the revision of a model that has no repository."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/sticker"))
    parser.add_argument("--to", type=Path, default=Path("src/maskwright/assets/sticker"))
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--sidecar-only", action="store_true", help="only rewrite maskwright.json")
    options = parser.parse_args()
    if not options.sidecar_only:
        fresh = options.to.with_name(options.to.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        export_checkpoint(options.out, fresh, options.side)
        shutil.rmtree(options.to, ignore_errors=True)
        fresh.rename(options.to)
    write_sidecar(options.to, revision=weights_digest(options.to))
    size = sum(file.stat().st_size for file in options.to.rglob("*") if file.is_file())
    print(f"{options.to}: {size / 1e6:.1f} MB, revision {weights_digest(options.to)}")


if __name__ == "__main__":
    main()
