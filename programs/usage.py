"""Lines of Python for those who have an export and not this program."""

UPRIGHT = "image = ImageOps.exif_transpose(image)"
# As datasets.decoding does, but for floats, at which it fails, and for colours of 8 or 12 bits in
# 16, of which Pillow gives the upper 8.
TO_RGB = (
    "if image.mode.startswith(('I', 'F')):  # 16 bits: the upper 8 of those that are in use",
    "    grey = np.asarray(image)",
    "    bits = next(bits for bits in (8, 12, 16) if 0 <= grey.min() <= grey.max() < 2**bits)",
    "    image = Image.fromarray((grey >> (bits - 8)).astype(np.uint8))",
    "if image.mode in ('P', 'PA', 'LA', 'RGBA') or 'transparency' in image.info:",
    "    image = image.convert('RGBA')",
    "    image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)",
    "image = image.convert('RGB')",
)


def reading(*, oriented: bool) -> list[str]:
    """What opens an image of any kind as the network saw those of its run: `image`, in RGB.

    They need `Image` and `ImageOps` of Pillow, and numpy as `np`.

    Args:
        oriented: EXIF orientation is applied.
    """
    turning = [UPRIGHT] if oriented else []
    return ["image = Image.open('image.jpg')", *turning, *TO_RGB]
