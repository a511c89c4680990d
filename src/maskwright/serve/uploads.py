"""Pictures that were sent: decoded from their bytes; neither a name nor an address in a request is ever opened."""

from maskwright.errors import TooLargeError
from maskwright.images import Picture
from maskwright.serve.problems import Problem

LONGEST = 100  # characters of a name


def open_upload(data: bytes, name: str, limit: int) -> Picture:
    """Decodes a picture.

    Args:
        data: of the file, which also tell what it is.
        name: of the file, which only results show.
        limit: the most pixels; a larger picture is refused from its header.

    Raises:
        Problem: too many pixels (413).
        ImageError: not a picture, or a broken one.
    """
    try:
        pixels = Picture.open(bytes(data), limit=limit).pixels
    except TooLargeError as error:
        raise Problem(413, "picture_too_large", f"{str(error).partition(':')[0]}: send a smaller one") from None
    return Picture(pixels, clean_name(name), "upload")


def clean_name(name: str) -> str:
    """What results call a picture: the last part of a file's name without its ending, printable and short."""
    last = name.replace("\\", "/").rpartition("/")[2]
    stem = last.rpartition(".")[0] or last
    return "".join(sign for sign in stem if sign.isprintable()).strip()[:LONGEST] or "picture"
