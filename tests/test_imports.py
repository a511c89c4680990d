"""Every module imports on a machine without the packages that break beside a CPU build of torch."""

import os
import subprocess
import sys

PROGRAM = """
import importlib, importlib.abc, importlib.util, pkgutil, sys

BLOCKED = ("torchvision", "cv2", "skimage", "einops", "supervision", "matplotlib")

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.partition(".")[0] in BLOCKED else found(name, *rest)
sys.meta_path.insert(0, Blocker())
import maskwright
names = [module.name for module in pkgutil.walk_packages(maskwright.__path__, "maskwright.")]
for name in names:
    importlib.import_module(name)
for name in maskwright.__all__:
    getattr(maskwright, name)
import diffusers
for name in ("UNet2DConditionModel", "AutoencoderKL", "AutoencoderTiny", "DDIMScheduler"):
    getattr(diffusers, name)
print(len(names))
"""


def test_every_module_imports_without_torchvision() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": "src"}
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40
