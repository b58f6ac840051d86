"""The square of pixels that networks are trained on, cut as ADM's data loader does.

The rule (Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", 2021,
in the code that they published): halve by box filter while the shorter side stays at
least the wanted size, scale the rest of the way by bicubic interpolation, crop the
centre.
"""

from PIL import Image

LARGEST = 1 << 27  # pixels of the scaled image, before it is cropped


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """Scales the shorter side to `size` and crops the centre.

    A smaller image is enlarged. Where a side cannot be halved, or the centre lies
    between two pixels, it is rounded down.

    Args:
        image: of mode L or RGB; Pillow does not interpolate palettes.
        size: pixels per side of what is returned, >= 1.

    Raises:
        ValueError: a long thin image, whose longer side scaling would make huge.
    """
    width, height = image.size
    if size * size * max(width, height) > LARGEST * min(width, height):
        raise ValueError(f"{width}x{height} pixels are too long and thin to be scaled")
    image = scale(image, size)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def scale(image: Image.Image, shorter: int) -> Image.Image:
    """Scales an image so that its shorter side has so many pixels."""
    while min(image.size) >= 2 * shorter:
        half = (image.width // 2, image.height // 2)
        image = image.resize(half, Image.Resampling.BOX)
    factor = shorter / min(image.size)
    scaled = (round(image.width * factor), round(image.height * factor))
    return image.resize(scaled, Image.Resampling.BICUBIC)
