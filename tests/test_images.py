"""Pictures: whatever can be opened opens right, whatever cannot gives one line, and sizes are never off by half a pixel."""

import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskwright.errors import ImageError
from maskwright.images import Picture, find_pictures, resize, shrunk_size, to_tensor, upsample, working_size

FLAG = np.array([[[255, 0, 0], [0, 0, 255], [0, 0, 255]], [[255, 0, 0], [0, 255, 0], [0, 255, 0]]], dtype=np.uint8)  # (2, 3, 3)


def noise(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def refusal(image: object, **options: int) -> str:
    """The message of the ImageError that opening this gives: one printable line that offers a way on."""
    with pytest.raises(ImageError) as caught:
        Picture.open(image, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.isprintable() and ": " in message
    return message


# What opens


def test_path_bytes_stream_pillow_array_and_tensor_agree(tmp_path: Path) -> None:
    pixels = noise()
    path = tmp_path / "my dog.v2.png"
    path.write_bytes(encoded(pixels))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    content = path.read_bytes()
    sources = [path, str(path), content, io.BytesIO(content), path.open("rb"), Image.open(path), pixels, tensor]
    opened = [Picture.open(source) for source in (*sources, tensor / 255, pixels.astype(np.float64) / 255)]
    for stream in (sources[4], sources[5]):
        stream.close()
    assert all(np.array_equal(one.pixels, pixels) for one in opened)
    assert [one.name for one in opened[:6]] == ["my dog.v2", "my dog.v2", "picture", "stream", "my dog.v2", "my dog.v2"]
    assert opened[0].source == str(path) and opened[0].size == (40, 60)
    assert Picture.open(opened[0]) is opened[0]


def test_the_callers_array_is_copied() -> None:
    pixels = noise()
    picture = Picture.open(pixels)
    pixels[:] = 0
    assert picture.pixels.any()


def test_a_stream_that_cannot_seek_is_read() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as stream:
        stream.write(encoded(FLAG))
    with os.fdopen(read, "rb") as stream:
        assert np.array_equal(Picture.open(stream).pixels, FLAG)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, kind: str) -> None:
    big = np.kron(FLAG, np.ones((16, 16, 1), dtype=np.uint8))
    stored = {
        1: big, 2: big[:, ::-1], 3: big[::-1, ::-1], 4: big[::-1], 5: big.swapaxes(0, 1),
        6: np.rot90(big, 1), 7: np.rot90(big, 2).swapaxes(0, 1), 8: np.rot90(big, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = Picture.open(encoded(np.ascontiguousarray(stored), kind, exif=exif, quality=95))
    assert opened.size == big.shape[:2]
    assert np.abs(opened.pixels[8::16, 8::16].astype(int) - FLAG).max() <= 2  # block centres, where JPEG smears no colour


def test_damaged_exif_is_no_reason_to_refuse() -> None:
    assert Picture.open(encoded(noise(), "JPEG", exif=b"Exif\0\0garbage!")).size == (40, 60)


def test_transparency_is_laid_over_white() -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = 0, 128, 255
    palette = Image.fromarray(rgba[..., 3] // 127)  # indices 0, 1, 2
    palette = palette.convert("P")
    palette.putpalette([0, 0, 0] * 3)
    cases = {
        "RGBA": encoded(rgba),
        "LA": encoded(Image.fromarray(rgba).convert("LA")),
        "P, one index clear": encoded(palette, transparency=0),
        "P, alpha by index": encoded(palette, transparency=b"\x00\x80\xff"),
        "GIF": encoded(palette, "GIF", transparency=0),
        "RGB, one colour clear": encoded(Image.new("RGB", (3, 1)), transparency=(0, 0, 0)),
        "array": rgba,
        "tensor": torch.from_numpy(rgba).permute(2, 0, 1),
    }
    for name, image in cases.items():
        values = Picture.open(image).pixels  # type: ignore[arg-type]
        assert values.shape == (1, 3, 3) and values[0, 0].tolist() == [255] * 3, name
        assert values[0, 2].tolist() == ([255] * 3 if "colour" in name else [0] * 3), name
        if name in ("RGBA", "LA", "P, alpha by index", "array", "tensor"):
            assert values[0, 1].tolist() == [127] * 3, name


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = np.array([[0, 257 * 100, 65535], [255, 256, 40000]], dtype=np.uint16)
    expected = np.round(deep / 257).astype(np.uint8)
    wide = Image.fromarray(deep.astype(np.int32))
    assert wide.mode == "I"
    sources = {"png": encoded(deep), "tiff": encoded(deep, "TIFF"), "I": wide, "I;16": Image.fromarray(deep), "array": deep}
    sources["I, tiff"] = encoded(wide, "TIFF")
    sources["pgm"] = b"P5\n3 2\n65535\n" + deep.astype(">u2").tobytes()
    for name, source in sources.items():
        pixels = Picture.open(source).pixels  # type: ignore[arg-type]
        assert np.array_equal(pixels[..., 0], expected) and np.array_equal(pixels[..., 0], pixels[..., 2]), name


def test_sixteen_bit_picture_turned_by_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = Picture.open(encoded(np.arange(6, dtype=np.uint16).reshape(2, 3) * 257, exif=exif))
    assert opened.pixels[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "F"])
def test_other_modes(mode: str) -> None:
    half = np.zeros((16, 16, 3), dtype=np.uint8)
    half[:, 8:] = 255
    image = Image.fromarray(half)
    image = Image.fromarray(half[..., 0].astype(np.float32) / 255) if mode == "F" else image.convert(mode)
    kind = "TIFF" if mode == "F" else "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    assert np.abs(Picture.open(encoded(image, kind)).pixels.astype(int) - half).max() <= 2
    assert np.abs(Picture.open(image).pixels.astype(int) - half).max() <= 2


def test_grey_boolean_and_half_precision_arrays() -> None:
    grey = np.array([[0, 51, 255]], dtype=np.uint8)
    sources = [grey, grey[..., None], grey.astype(np.float16) / 255, torch.from_numpy(grey), torch.from_numpy(grey)[None]]
    for source in sources:
        assert np.array_equal(Picture.open(source).pixels[..., 1], grey)
    assert Picture.open(grey > 60).pixels[0, :, 0].tolist() == [0, 0, 255]
    assert Picture.open(torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16, requires_grad=True)).pixels[0, :, 0].tolist() == [0, 255]
    assert Picture.open(np.array([[1.001, -0.001]])).pixels[0, :, 0].tolist() == [255, 0]  # overshoot of resampling


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    assert Picture.open(encoded(noise(*size))).size == size


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert Picture.open(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])).pixels[0, 0].tolist() == [255, 0, 0]


# What does not open


def test_names_of_files_that_do_not_open(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("dear diary\n" * 50)
    (tmp_path / "void.png").touch()
    assert "nowhere.jpg' does not exist" in refusal(tmp_path / "nowhere.jpg")
    assert "is a folder" in refusal(str(tmp_path))
    assert "notes.jpg' is not a picture" in refusal(tmp_path / "notes.jpg")
    assert "void.png' is empty" in refusal(tmp_path / "void.png")
    assert "below' cannot be opened (Not a directory)" in refusal(tmp_path / "void.png" / "below")
    assert "cannot be opened" in refusal("nul\0byte.png")
    assert "cannot be opened" in refusal("x" * 5000)
    assert r"new\nline.png' does not exist" in refusal("new\nline.png")
    assert "download" in refusal("https://example.org/dog.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF"])
def test_a_picture_cut_short_is_never_half_a_picture(kind: str) -> None:
    content = encoded(noise(), kind)
    whole = Picture.open(content).pixels
    for part in (0.2, 0.5, 0.9):
        cut = content[: int(len(content) * part)]
        try:
            assert np.array_equal(Picture.open(cut).pixels, whole)
        except ImageError as error:
            assert "cut short" in str(error)
    assert "cut short" in refusal(content[: len(content) // 2])


def test_a_cut_jpeg_in_an_undecoded_pillow_image(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(encoded(noise(), "JPEG")[:700])
    with Image.open(path) as image:
        assert "cut.jpg' is cut short" in refusal(image)


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(30_000, 30_000))
    message = refusal(path)
    assert "bomb.png' has 30000 x 30000 pixels, over the limit of 150,000,000" in message and "`limit`" in message
    assert "over the limit of 100" in refusal(encoded(noise()), limit=100)
    before = Image.MAX_IMAGE_PIXELS
    assert "cut short" in refusal(bomb(12_000, 12_000))  # within our limit, over the one at which Pillow warns
    assert "cut short" in refusal(bomb(20_000, 10_000), limit=200_000_000)  # over the one at which Pillow refuses
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (b"", "is empty"),
        (np.zeros((0, 4, 3), np.uint8), "has no pixels"),
        (torch.zeros(3, 0, 4), "has no pixels"),
        (Image.new("RGB", (0, 5)), "has no pixels"),
        (np.zeros(5, np.uint8), "has shape (5,)"),
        (np.zeros((4, 5, 2), np.uint8), "has shape (4, 5, 2)"),
        (np.zeros((3, 8, 9), np.uint8), "array.transpose(1, 2, 0)"),
        (np.zeros((2, 8, 9, 3), np.uint8), "array[0]"),
        (torch.zeros(8, 9, 3), "tensor.permute(2, 0, 1)"),
        (torch.zeros(1, 3, 8, 9), "tensor[0]"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), np.inf, dtype=np.float32), "NaN or infinite"),
        (torch.full((3, 4, 4), float("nan")), "NaN"),
        (np.full((4, 4, 3), 255.0), "divide by 255"),
        (np.full((4, 4, 3), -1.0), "(x + 1) / 2"),
        (np.zeros((4, 4, 3), np.int64), "has dtype int64"),
        (np.zeros((4, 4, 3), object), "has dtype object"),
        (np.zeros((4, 4, 3), np.complex64), "has dtype complex64"),
        (Image.fromarray(np.full((2, 2), 70_000, np.int32)), "outside 0..65535"),
        (Image.fromarray(np.full((2, 2), 300.0, np.float32)), "divide by 255"),
        (io.StringIO("text"), "binary mode"),
        (io.BytesIO(b""), "is empty"),
        (None, "a NoneType holds no picture"),
        (7, "a int holds no picture"),
    ],
)
def test_unusable_values(image: object, complaint: str) -> None:
    assert complaint in refusal(image)


def test_picture_itself_checks_its_pixels() -> None:
    with pytest.raises(ImageError, match=r"not \(2, 2\) float64"):
        Picture(np.zeros((2, 2)), "a", "b")  # type: ignore[arg-type]


def test_pillows_warnings_stay_inside_on_many_threads() -> None:
    filters = list(warnings.filters)
    content = encoded(noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09")  # a truncated directory, about which Pillow warns
    with ThreadPoolExecutor(8) as pool:
        assert len({one.size for one in pool.map(Picture.open, [content] * 64)}) == 1
    assert warnings.filters == filters


# Finding


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pictures = ("b.jpg", "a.PNG", "deep/er/c.webp", "x[1].png")
    for name in (*pictures, ".hidden.png", ".cache/d.png", "notes.txt", "odd.dat", "b.overlay.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["."], "a.PNG b.jpg deep/er/c.webp x[1].png"),
        (["b.jpg", "."], "b.jpg a.PNG deep/er/c.webp x[1].png"),
        (["b.jpg", "./b.jpg", "deep/../b.jpg"], "b.jpg"),
        (["notes.txt", ".hidden.png", "b.overlay.png"], "notes.txt .hidden.png b.overlay.png"),
        (["*"], "a.PNG b.jpg x[1].png"),
        (["**/*.webp"], "deep/er/c.webp"),
        (["*.dat"], "odd.dat"),
        (["[ab].*"], "a.PNG b.jpg"),
        (["x[1].png"], "x[1].png"),
        ("b.jpg", "b.jpg"),
        ([Path("b.jpg")], "b.jpg"),
    ],
)
def test_find_pictures(folder: Path, inputs: list[str], expected: str) -> None:
    assert [str(path) for path in find_pictures(inputs)] == expected.split()


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (["b.jpg", "lost.jpg"], "'lost.jpg' does not exist"),
        (["empty"], "the folder 'empty' holds no pictures"),
        (["*.tif"], r"no picture matches '\*.tif'"),
        (["nul\0"], "does not exist"),
        ([], "no picture is named"),
        ([""], "no picture is named"),
    ],
)
def test_find_pictures_refuses(folder: Path, inputs: list[str], complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint):
        find_pictures(inputs)


# Sizes


@given(
    height=st.integers(1, 20_000), width=st.integers(1, 20_000),
    native=st.sampled_from([64, 128, 512, 768, 1024]), multiple=st.sampled_from([4, 8, 16, 32, 64]),
)
def test_working_size_keeps_area_and_aspect(height: int, width: int, native: int, multiple: int) -> None:
    h, w = working_size((height, width), native=native, multiple=multiple)
    assert h % multiple == w % multiple == 0 and min(h, w) >= multiple
    aspect = min(max(height / width, 1 / 4), 4)
    rounding = multiple / native * max(aspect, 1 / aspect) ** 0.5  # half a step of the shorter side, on either side
    assert abs(np.log(h * w / native**2)) <= 1.2 * rounding
    assert abs(np.log(h / w / aspect)) <= 0.8 * rounding
    assert working_size((width, height), native=native, multiple=multiple) == (w, h)


def test_working_size_of_usual_pictures() -> None:
    assert working_size((1000, 1000), native=512, multiple=64) == (512, 512)
    assert working_size((1, 1), native=64, multiple=16) == (64, 64)
    assert working_size((375, 500), native=512, multiple=64) == (448, 576)
    assert working_size((480, 640), native=64, multiple=16) == (64, 80)
    assert working_size((1, 5000), native=512, multiple=64) == (256, 1024)
    assert working_size((9, 9), native=8, multiple=64) == (64, 64)


@given(height=st.integers(1, 10**6), width=st.integers(1, 10**6), pixels=st.integers(1, 10**6))
def test_shrunk_size_fits(height: int, width: int, pixels: int) -> None:
    h, w = shrunk_size((height, width), pixels=pixels)
    assert 1 <= h <= height and 1 <= w <= width and h * w <= pixels
    assert (h, w) == (height, width) or height * width > pixels


def test_resize_does_not_shift() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 64, 3)).copy()
    small, large = resize(ramp, (12, 16)), resize(Picture(ramp, "a", "b"), (96, 128))
    assert small.shape == (12, 16, 3) and large.shape == (96, 128, 3)
    for other in (small, large):
        assert np.abs(other.astype(int) + other[:, ::-1] - 255).max() <= 2  # a ramp stays point-symmetric only without a shift
    assert resize(ramp, (48, 64)) is ramp


def test_resize_antialiases() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, (8, 8)).astype(int) - 127).max() < 10


def test_to_tensor() -> None:
    batch = to_tensor([FLAG, FLAG])
    assert batch.shape == (2, 3, 2, 3) and batch.dtype == torch.float32
    assert batch[1, :, 0, 0].tolist() == [1, -1, -1] and batch.is_contiguous(memory_format=torch.channels_last)


def test_upsample_puts_cell_centres_where_they_belong() -> None:
    maps = torch.tensor([[[0.0, 1.0]]])
    assert upsample(maps, (1, 4))[0, 0].tolist() == [0, 0.25, 0.75, 1]
    assert upsample(maps, (1, 2)) is maps
    ramp = torch.linspace(0, 1, 8).expand(2, 8, 8)
    for size in ((8, 20), (20, 8), (3, 5), (3, 20), (33, 2)):  # also where one side shrinks
        result = upsample(ramp, size)
        assert result.shape == (2, *size)
        torch.testing.assert_close(result + result.flip(2), torch.ones_like(result))


def test_upsample_averages_where_it_shrinks() -> None:
    assert (upsample(torch.eye(32)[None], (1, 32)) > 0).float().mean() > 0.9  # one row of 32 would miss nearly all
