"""One colour per label number, the same in every file and every picture."""

import colorsys

# Bright enough to be seen over a dimmed photograph; neighbours in the list also differ for people with deuteranopia or
# protanopia (spread out in OKLab under the simulation of Machado et al. 2009, starting from the colours of Okabe and Ito).
FIRST = (
    "e69f00", "56b4e9", "009e73", "d55e00", "cc79a7", "f0e442", "3a7ae0", "962d78", "5af0f0", "a52d00",
    "87d2a5", "6a3dff", "c3d269", "ff4b69", "1e5ab4", "8769a5", "96ffb4", "c400c4", "b4a05a", "a54b5a",
)  # fmt: skip
COLOURS = 255  # what an indexed PNG can hold beside the background


def colour(number: int) -> tuple[int, int, int]:
    """RGB 0..255 of a label number; 0 is black, and after 255 the colours begin again."""
    if number == 0:
        return (0, 0, 0)
    place = (number - 1) % COLOURS
    if place < len(FIRST):
        red, green, blue = bytes.fromhex(FIRST[place])
        return red, green, blue
    hue = place * 0.618034 % 1  # golden section: each hue falls into the widest gap that is left
    light, saturation = (0.46, 0.62, 0.74)[place % 3], (0.85, 0.60)[place % 2]
    red, green, blue = (round(255 * value) for value in colorsys.hls_to_rgb(hue, light, saturation))
    return red, green, blue


def palette() -> bytes:
    """The 256 colours of an indexed PNG, index = label number."""
    return bytes(value for number in range(COLOURS + 1) for value in colour(number))
