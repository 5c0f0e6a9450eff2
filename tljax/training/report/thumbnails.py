"""Small images for a page, as data URIs."""

import base64
import io

import numpy as np
from PIL import Image

SIDE_PX = 112
HEAT = np.array([(0, 0, 60), (120, 20, 110), (230, 90, 50), (255, 240, 120)], np.float32)


def thumbnail(image: np.ndarray, side: int = SIDE_PX) -> Image.Image:
    """An image [h, w, C] uint8 as a square picture; small ones are enlarged without smoothing."""
    if image.shape[-1] == 1:
        image = image.repeat(3, -1)
    picture = Image.fromarray(image[..., :3])
    small = max(picture.size) <= side // 2
    resampling = Image.Resampling.NEAREST if small else Image.Resampling.BILINEAR
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, resampling)


def heated(image: np.ndarray, heat: np.ndarray, side: int = SIDE_PX) -> Image.Image:
    """An image with a saliency map [h, w] in color over it, from its least to its largest value."""
    picture = thumbnail(image, side)
    gray = np.asarray(picture.convert('L').convert('RGB'), np.float32)
    heat = np.asarray(heat, np.float32)
    low, span = heat.min(), np.ptp(heat)
    levels = (heat - low) / span if span > 0 else np.zeros_like(heat)
    smooth = Image.fromarray(levels).resize(picture.size, Image.Resampling.BILINEAR)
    at = np.clip(np.asarray(smooth), 0, 1) * (len(HEAT) - 1)
    lower = np.minimum(at.astype(int), len(HEAT) - 2)
    colors = HEAT[lower] + (HEAT[lower + 1] - HEAT[lower]) * (at - lower)[..., None]
    share = 0.25 + 0.5 * np.clip(np.asarray(smooth), 0, 1)[..., None]
    return Image.fromarray((gray * (1 - share) + colors * share).round().astype(np.uint8))


def data_uri(picture: Image.Image, quality: int = 80) -> str:
    """A picture as the data URI of a JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, 'JPEG', quality=quality)
    return f'data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}'
