"""How the bundled model is made, and how to make one for other words. Nothing here is needed to use maskwright."""

from pathlib import Path

NOTO = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")  # Debian: fonts-noto-color-emoji
