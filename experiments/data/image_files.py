"""One image file as an array of bytes: what is converted, what is refused, how it is resized.

Transparent pixels are laid over white, of 16 bits the upper eight are taken, a palette is replaced
by its colours, CMYK by red, green and blue as Pillow has it, an orientation that EXIF names is
applied, and of several frames the first is taken.
"""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from experiments.cli.errors import first_line

Pixels = UInt8[np.ndarray, "h w c"]

EXTENSIONS = frozenset({
    *(".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm"),
    *(".ppm", ".tif", ".tiff", ".webp"),
})  # fmt: skip
_GREY = {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"}
_TRANSPARENT = {"RGBA", "RGBa", "LA", "La", "PA"}
_MODES = {"CMYK": "CMYK", "P": "palette", "PA": "palette", "1": "black-and-white"}
_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}


class Header(NamedTuple):
    """What a file says of its image before it is decoded."""

    size: tuple[int, int]  # height and width, as it is to be looked at
    mode: str  # Pillow's
    grey: bool
    transparent: bool  # whether it may be in parts
    odd: tuple[str, ...]  # what is always converted: "CMYK", "palette", "16-bit", "rotated", …


def header(source: Path | bytes) -> Header:
    """Reads what a file says of its image.

    Raises:
        ValueError: It is no image, or none that can be converted; the text says why.
    """
    try:
        with _opened(source) as image:
            # Asked of a PNG, Pillow would decode it to look for EXIF behind its pixels.
            has_exif = image.format != "PNG" or "exif" in image.info
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) if has_exif else 1
            width, height = image.size
            mode, transparent = image.mode, image.mode in _TRANSPARENT or _has_key(image)
            several = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
            deep = mode.startswith("I;16") or (image.format in {"PNG", "TIFF"} and _is_deep(image))
    except Exception as error:  # Pillow raises whatever its parts raise
        raise ValueError(_why(error)) from error
    if mode in {"I", "F"}:
        raise ValueError("its pixels have 32 bits, where bytes are needed")
    odd = [_MODES[mode]] if mode in _MODES else []
    odd += [] if mode in {*_MODES, *_GREY, *_TRANSPARENT, "RGB"} else [mode]
    odd += ["16-bit"] * deep + ["rotated"] * (turned in range(2, 9)) + ["animated"] * several
    size = (width, height) if turned in range(5, 9) else (height, width)
    return Header(size, mode, mode in _GREY, transparent, tuple(odd))


def decode(source: Path | bytes, channels: int, side: int | None = None) -> Pixels:
    """Decodes an image.

    Args:
        source: A file, or its content.
        channels: 1 (of grey images alone), 3, or 4 (with transparency).
        side: As of `resized`; as it is where None.

    Raises:
        ValueError: It cannot be decoded; the text says why.
    """
    try:
        with _opened(source) as image:
            pixels = np.asarray(_converted(ImageOps.exif_transpose(image), channels))
    except Exception as error:  # Pillow raises whatever its parts raise
        raise ValueError(_why(error)) from error
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    return pixels if side is None else resized(pixels, side)


def resized(pixels: Pixels, side: int) -> Pixels:
    """Cuts the middle square out of an image and brings it to another size.

    Areas are averaged where it becomes smaller, as Pillow's BOX does; BICUBIC where it becomes
    larger. An odd column or row that is cut off is one more at the end.

    Args:
        pixels: Of any number of channels.
        side: Height and width of the result.
    """
    height, width, channels = pixels.shape
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = pixels[top : top + short, left : left + short]
    if short == side:
        return np.ascontiguousarray(square)
    how = Image.Resampling.BOX if short > side else Image.Resampling.BICUBIC
    planes = [np.ascontiguousarray(square[:, :, channel]) for channel in range(channels)]
    made = [np.asarray(Image.fromarray(plane).resize((side, side), how)) for plane in planes]
    return np.stack(made, axis=2)


def _opened(source: Path | bytes) -> Any:
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def _converted(image: Any, channels: int) -> Any:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in _TRANSPARENT or _has_key(image):
        image = image.convert("RGBA")
        if channels != 4:
            white = Image.new("RGBA", image.size, "white")
            white.alpha_composite(image)
            image = white.convert("RGB")
    return image.convert(_CHANNELS[channels])


def _has_key(image: Any) -> bool:
    """Whether a colour, or some colours of the palette, stand for transparency."""
    return "transparency" in image.info


def _is_deep(image: Any) -> bool:
    return any("16" in str(tile[3]) for tile in image.tile)


def _why(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image that Pillow knows"
    return first_line(error)
