"""One picture ends no run: what fails by itself is told by name, what changed is made again, and commands keep out of each other's way."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskwright.cli.salvage import work_through
from maskwright.errors import ImageError, NumberError, SettingsError
from maskwright.images import Picture
from tests.command_line import documents, no_model, outputs, refused, run, scene, surroundings, three
from tests.tiny import pixels

__all__ = ["no_model", "surroundings"]  # fixtures


def work(bad: dict[str, Exception], batch: int = 3) -> object:
    """Names of pictures, `batch` of them at a time; those that are bad end it."""

    def names(pictures: Iterator[Picture]) -> Iterator[str]:
        group: list[Picture] = []
        for picture in pictures:
            group.append(picture)
            if len(group) == batch:
                yield from finish(group)
                group = []
        yield from finish(group)

    def finish(group: list[Picture]) -> list[str]:
        for picture in group:
            if picture.name in bad:
                raise bad[picture.name]
        return [picture.name for picture in group]

    return names


@pytest.mark.parametrize("batch", [1, 2, 3, 10])
@pytest.mark.parametrize("bad", [(), ("c",), ("a", "d"), ("g",), tuple("abcdefg")])
def test_pictures_that_fail_cost_the_others_nothing(bad: tuple[str, ...], batch: int) -> None:
    pictures = [Picture(pixels(), name, f"in/{name}.png") for name in "abcdefg"]
    errors: dict[str, Exception] = {name: MemoryError() if n % 2 else NumberError("NaN: use dtype float32") for n, name in enumerate(bad)}
    told: list[ImageError] = []
    found = list(work_through(work(errors, batch), iter(pictures), refuse=told.append))  # type: ignore[arg-type]
    assert found == [name for name in "abcdefg" if name not in bad]
    assert [str(error).partition(":")[0] for error in told] == [f"'in/{name}.png'" for name in bad]
    assert all("float32" in str(error) or "out of memory" in str(error) for error in told)


def test_what_would_be_so_for_every_picture_ends_the_run() -> None:
    pictures = iter([Picture(pixels(), name, name) for name in "ab"])
    with pytest.raises(SettingsError, match="wrong"):
        list(work_through(work({"b": SettingsError("wrong")}), pictures, refuse=lambda error: None))  # type: ignore[arg-type]


def test_a_changed_picture_is_made_again() -> None:
    picture, other = scene(Path("a.png")), scene(Path("b.png"), 1)
    options = ["segment", "a.png", "b.png", "-l", "bus, grass", "--out", "out", "--json", "--resume"]
    run(*options)
    before = Path("out/b.json").stat().st_mtime_ns
    scene(picture, 2)
    os.utime(picture, ns=(before + 10**9, before + 10**9))
    os.utime(other, ns=(before - 10**9, before - 10**9))
    result = run(*options)
    assert "differ in picture" in result.stderr and Path("out/b.json").stat().st_mtime_ns == before
    assert len(documents(result)) == 2 and Path("out/a.json").stat().st_mtime_ns > before


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_commands_do_not_write_over_each_others_results(resume: tuple[str, ...]) -> None:
    picture = scene(Path("a.png"))
    run("segment", picture, "-l", "bus, grass")
    before = {path: path.read_bytes() for path in Path("maskwright-out").iterdir()}
    for command in (["discover", picture], ["regions", picture, "--method", "diffcut"]):
        line = refused(*command, *resume, model_line=True)
        assert "a.json" in line and "another command" in line and "--out" in line
    assert {path: path.read_bytes() for path in Path("maskwright-out").iterdir()} == before
    run("segment", picture, "-l", "bus", "--method", "maskdiffusion", *resume)
    assert outputs(Path("maskwright-out")) == three("a")
