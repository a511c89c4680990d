"""The rooms of the house: imports point downwards only, and methods know no model library."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "maskwright"
FLOORS = (
    ("errors", "background", "decoding", "images", "tiling", "vocabulary", "segmentation", "score_maps", "projection", "regions", "record",
     "versions", "quiet", "hub_cache", "exports"),
    ("readings", "datasets", "solvers"),
    ("backbones", "refine"),
    ("text",),
    ("methods",),
    ("passes", "rejection", "tiled", "reader", "segmenter", "grouping"),
    ("discovery", "evaluation", "training", "decoders", "students"),
    ("serve",),
    ("cli",),
    ("__init__", "__main__"),
)  # fmt: skip
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in MODULES} <= set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    wrong = []
    for line, name in imports(path):
        package, *parts = name.split(".")
        if package == "maskwright" and parts and parts[0] in FLOOR and FLOOR[parts[0]] > FLOOR[room(path)]:
            wrong.append(f"{path}:{line} imports {name}")
    assert not wrong


@pytest.mark.parametrize(
    ("inside", "libraries"),
    [
        ("methods", {"diffusers", "transformers", "huggingface_hub"}),
        ("readings", {"diffusers", "transformers", "huggingface_hub"}),
        ("refine", {"diffusers", "transformers", "huggingface_hub"}),
        ("solvers", {"diffusers", "transformers", "huggingface_hub"}),
        ("discovery", {"diffusers", "transformers", "huggingface_hub"}),
        ("text/planning.py", {"diffusers", "transformers", "huggingface_hub"}),
        ("segmenter.py", {"diffusers", "transformers", "huggingface_hub"}),
        ("", {"torchvision", "cv2", "skimage", "einops"}),
    ],
)
def test_libraries_stay_in_their_rooms(inside: str, libraries: set[str]) -> None:
    here = ROOT / inside
    for path in MODULES if not inside else [path for path in MODULES if path == here or here in path.parents]:
        assert not libraries & {name.partition(".")[0] for _, name in imports(path)}, path


def test_the_reader_sees_a_breach(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def f():\n    from maskwright.cli import main\n    import torch.nn\n")
    assert list(imports(module)) == [(2, "maskwright.cli.main"), (3, "torch.nn")]
