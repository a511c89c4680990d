"""Sets up a virtual environment in this checkout and runs something in it. Needs only Python 3.11 or newer.

python3 dev.py demo    install maskwright, segment the example pictures with the bundled model, offline
python3 dev.py test    install it with the tools of its developers, check style and types, run the tests
python3 dev.py setup   only install (add "dev" for the developers' tools)
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
HOME = ROOT / ".venv"
BIN = HOME / ("Scripts" if os.name == "nt" else "bin")
STAMP = HOME / "maskwright-setup"
MOST_WORKERS = 8  # each holds a model and some libraries, about a gigabyte


def run(*command: str, **environment: str) -> None:
    """Runs a command in the checkout; leaves with its status when it fails."""
    print("+ " + " ".join(command), flush=True)
    status = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}).returncode
    if status:
        sys.exit(status)


def setup(extra: str) -> None:
    """Makes the environment and installs into it; does nothing when both files and extra are as they were."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()).hexdigest()
    done = STAMP.read_text().split() if STAMP.exists() else []
    if wanted in done and (extra in done or not extra):
        return
    if not (BIN / "python").exists() and not (BIN / "python.exe").exists():
        venv.create(HOME, with_pip=True)
    target = f".[{extra}]" if extra else "."
    run(str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", "constraints.txt", "-e", target)
    extras = {extra, *(done[1:] if wanted in done[:1] else [])} - {""}
    STAMP.write_text(" ".join([wanted, *sorted(extras)]))


def demo() -> None:
    """The main job on the bundled model: named masks on an example picture, in out/."""
    setup("")
    command = ["segment", "examples/dog-and-apple.png", "--labels", "dog, red apple, grass", "--background", "none"]
    run(str(BIN / "maskwright"), *command, "--out", "out", "--offline")
    print("\nLook at out/dog-and-apple.overlay.png")


def test() -> None:
    """Style, types, tests."""
    setup("dev")
    run(str(BIN / "ruff"), "check", ".")
    run(str(BIN / "mypy"))
    workers = str(min(os.cpu_count() or 1, MOST_WORKERS))
    shared = ["-n", workers, "--dist", "loadfile"]  # the tests of a file share fixtures
    run(str(BIN / "python"), "-m", "pytest", "-q", *shared, OMP_NUM_THREADS="1")


def main() -> None:
    """Command line."""
    if sys.version_info < (3, 11):  # noqa: UP036  (whoever runs this has not installed anything yet)
        sys.exit(f"maskwright needs Python 3.11 or newer, this is {sys.version.split()[0]}: run it with python3.11")
    jobs = {"demo": demo, "test": test, "setup": lambda: setup("dev" if "dev" in sys.argv[2:] else "")}
    if len(sys.argv) < 2 or sys.argv[1] not in jobs:
        sys.exit(__doc__)
    jobs[sys.argv[1]]()


if __name__ == "__main__":
    main()
