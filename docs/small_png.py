"""Write pictures of this documentation with the colours that there are: a quarter of the bytes."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def write_small(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG with 64 colours."""
    small = picture.convert('RGB').quantize(64, Image.Quantize.FASTOCTREE)
    small.save(path, format='PNG', optimize=True)
