"""Versions of the packages that decide a result."""

import functools
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("maskwright", "torch", "diffusers", "transformers", "numpy", "pillow")


@functools.cache
def package_versions() -> dict[str, str]:
    """Installed versions by package name; "source" for maskwright run without being installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "source"
    return found
