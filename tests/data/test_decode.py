"""Decoding of files of every kind to RGB, and resizing."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tljax.data import decode, jpeg
from tljax.types import Interpolation, Preprocessing

# mode, values of a row of pixels, what of Pillow's to save with, and the RGB that is meant.
ROWS = {
    '1': ('1', [0, 255], {}, [0, 255]),
    'L': ('L', [0, 100, 255], {}, [0, 100, 255]),
    'LA': ('LA', [(100, 255), (100, 0), (0, 51)], {}, [100, 255, 204]),
    'P': ('P', [0, 1], {}, [(10, 20, 30), (200, 100, 50)]),
    'P, transparent': ('P', [0, 1], {'transparency': 1}, [(10, 20, 30), 255]),
    'L, transparent': ('L', [0, 100], {'transparency': 0}, [255, 100]),
    'RGB': ('RGB', [(200, 100, 0), (1, 2, 3)], {}, [(200, 100, 0), (1, 2, 3)]),
    'RGBA': (
        'RGBA',
        [(200, 100, 0, 255), (200, 100, 0, 0), (255, 0, 0, 51)],
        {},
        [(200, 100, 0), 255, (255, 204, 204)],
    ),
    'CMYK': (
        'CMYK',
        [(0, 255, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)],
        {'format': 'tiff'},
        [(255, 0, 0), 0, 255],
    ),
    'I;16': ('I;16', [0, 65535, 25700, 1000], {}, [0, 255, 100, 4]),
    'I': ('I', [0, 65535, 25700, 1000], {'format': 'tiff'}, [0, 255, 100, 4]),
    'I, out of range': ('I', [-5, 70000], {'format': 'tiff'}, [0, 255]),
    'F to 1': ('F', [0.0, 1.0, 0.2], {'format': 'tiff'}, [0, 255, 51]),
    'F to 255': ('F', [0.0, 255.0, 100.0], {'format': 'tiff'}, [0, 255, 100]),
    'F, not finite': (
        'F',
        [float('nan'), 1.0, 0.2, float('-inf')],
        {'format': 'tiff'},
        [0, 255, 51, 0],
    ),
}
RANGES = {
    **dict.fromkeys(('I;16', 'I', 'I, out of range'), (0, 65535)),
    **dict.fromkeys(('F to 1', 'F, not finite'), (0, 1)),
    'F to 255': (0, 255),
}
# How each EXIF orientation is to be seen: EXIF 2.32, table 6.
SEEN = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


def row(mode, values):
    """An image of one row of pixels; palette images have two colours."""
    image = Image.new(mode, (len(values), 1))
    if mode == 'P':
        image.putpalette([10, 20, 30, 200, 100, 50])
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    return image


def encoded(image, kind, **options):
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def resized(pixels, resize_px, interpolation=Interpolation.BILINEAR):
    wanted = Preprocessing(resize_px=resize_px, interpolation=interpolation)
    return decode.resize_square(pixels, wanted)


@pytest.mark.parametrize('name', ROWS)
def test_every_mode_is_seen_in_its_colours(name, tmp_path):
    mode, values, options, expected = ROWS[name]
    path = tmp_path / 'image'
    row(mode, values).save(path, **{'format': 'png', **options})
    with Image.open(path) as image:
        assert image.mode == mode, 'the file is not of the mode that is to be tested'
    colours = np.stack([np.broadcast_to(np.uint8(colour), 3) for colour in expected])
    np.testing.assert_array_equal(decode.read_image(path, RANGES.get(name)), colours[None])


@pytest.mark.parametrize('mode', sorted({*Image.MODES, 'PA', 'RGBa', 'RGBX', 'I;16B'} - {'La'}))
def test_every_mode_that_a_file_can_have_becomes_rgb(mode):
    assert decode.to_rgb(Image.new(mode, (3, 2)), (0, 1)).mode == 'RGB'


@pytest.mark.parametrize('kind', ['png', 'jpeg', 'webp'])
@pytest.mark.parametrize('orientation', SEEN)
def test_exif_orientation_is_applied(orientation, kind, tmp_path):
    stored = np.arange(0, 240, 40).astype(np.uint8).reshape(2, 3).repeat(16, 0).repeat(16, 1)
    stored = np.stack([stored] * 3, -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / 'image'
    Image.fromarray(stored).save(path, kind, exif=exif, quality=100)
    found = decode.read_image(path)
    np.testing.assert_allclose(found.astype(int), SEEN[orientation](stored), atol=3)


@pytest.mark.parametrize('between', [b'', b'\xff\xe5\0\5abc', b'\xff\xff\xff\xe5\0\5abc'])
def test_an_orientation_is_found_anywhere_before_the_pixels(between):
    exif = Image.Exif()
    exif[0x0112] = 3
    data = encoded(photograph(16, 24), 'jpeg', exif=exif)
    data = data[:2] + between + data[2:]
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(decode.decode(data, 'image'), wanted)


def test_the_pixels_of_a_jpeg_are_not_searched():
    data = encoded(photograph(64, 64), 'jpeg')
    head = jpeg.before_scan(data)
    assert data[len(head) :].startswith(b'\xff\xda')
    assert jpeg.before_scan(head) == head


@pytest.mark.parametrize('kind', ['gif', 'webp', 'tiff', 'png'])
def test_of_several_frames_the_first_is_taken(kind, tmp_path):
    first, *rest = [Image.new('RGB', (4, 4), colour) for colour in ('red', 'blue', 'lime')]
    path = tmp_path / 'image'
    options = {'lossless': True} if kind == 'webp' else {}
    first.save(path, kind, save_all=True, append_images=rest, **options)
    assert (decode.read_image(path) == (255, 0, 0)).all()


@pytest.mark.parametrize('kind', ['png', 'bmp', 'tiff', 'webp'])
def test_lossless_formats_give_the_pixels_back(kind, tmp_path):
    image = noise(20, 30)
    path = tmp_path / 'image'
    path.write_bytes(encoded(image, kind, **({'lossless': True} if kind == 'webp' else {})))
    np.testing.assert_array_equal(decode.read_image(path), np.asarray(image))


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
def test_jpeg_gives_nearly_the_pixels_back(mode, tmp_path):
    image = Image.linear_gradient('L').resize((64, 64)).convert(mode)
    path = tmp_path / 'image.jpg'
    path.write_bytes(encoded(image, 'jpeg', quality=95))
    wanted = np.asarray(image.convert('RGB')).astype(int)
    np.testing.assert_allclose(decode.read_image(path), wanted, atol=4)


def test_an_image_with_the_wrong_suffix_is_read(tmp_path):
    path = tmp_path / 'really_a_png.jpg'
    path.write_bytes(encoded(noise(5, 6), 'png'))
    np.testing.assert_array_equal(decode.read_image(path), np.asarray(noise(5, 6)))


@pytest.mark.parametrize('size', [(1, 1), (1, 5000), (5000, 1)])
def test_images_of_extreme_sizes_are_read(size, tmp_path):
    path = tmp_path / 'image.png'
    path.write_bytes(encoded(noise(*size), 'png'))
    assert decode.read_image(path).shape == (*size, 3)


def test_a_damaged_exif_block_does_not_hide_the_image(tmp_path):
    path = tmp_path / 'image.png'
    path.write_bytes(encoded(noise(5, 6), 'png', exif=b'Exif\0\0nothing of the kind'))
    np.testing.assert_array_equal(decode.read_image(path), np.asarray(noise(5, 6)))


DAMAGED = {
    'no bytes': b'',
    'one byte': b'\xff',
    'zeros': bytes(1000),
    'HTML': b'<!DOCTYPE html><html><body>404 Not Found</body></html>',
    **{
        f'half a {kind}': (whole := encoded(noise(64, 64), kind))[: len(whole) // 2]
        for kind in ('png', 'jpeg', 'gif', 'webp', 'bmp', 'tiff')
    },
}


@pytest.mark.parametrize('name', DAMAGED)
def test_a_damaged_file_is_named_in_one_line(name, tmp_path):
    path = tmp_path / 'damaged.jpg'
    path.write_bytes(DAMAGED[name])
    with pytest.raises(decode.ImageError) as caught:
        decode.read_image(path)
    assert str(caught.value).startswith(f'{path}: not a readable image: ')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['missing.jpg', '.'])
def test_a_path_that_is_not_a_file_is_named(name, tmp_path):
    with pytest.raises(decode.ImageError, match=str(tmp_path / name)):
        decode.read_image(tmp_path / name)


@pytest.mark.parametrize('kind', ['png', 'jpeg'])
@pytest.mark.parametrize('pixels', [101, 1000])
def test_a_decompression_bomb_is_refused(pixels, kind, tmp_path, monkeypatch):
    """Below twice its limit Pillow only warns."""
    path = tmp_path / 'bomb.png'
    path.write_bytes(encoded(noise(1, pixels), kind))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    with pytest.raises(decode.ImageError, match=r'bomb\.png.*bomb'):
        decode.read_image(path)


def test_a_decompression_bomb_is_refused_while_another_thread_reads(tmp_path, monkeypatch):
    """Filters of warnings belong to the process: one thread must not take away another's."""
    paths = {'plain': tmp_path / 'plain.png', 'bomb': tmp_path / 'bomb.png'}
    paths['plain'].write_bytes(encoded(noise(1, 50), 'png'))
    paths['bomb'].write_bytes(encoded(noise(1, 150), 'png'))
    first_began, second_began, first_ended = (threading.Event() for _ in range(3))
    transpose, open_image = ImageOps.exif_transpose, Image.open

    def slow_transpose(image):
        first_began.set()
        second_began.wait(5)
        return transpose(image)

    def slow_open(file):
        if file.getvalue() == paths['bomb'].read_bytes():
            second_began.set()
            first_ended.wait(5)
        return open_image(file)

    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    monkeypatch.setattr(ImageOps, 'exif_transpose', slow_transpose)
    monkeypatch.setattr(decode.Image, 'open', slow_open)
    # As in a program: here pytest makes errors of warnings.
    monkeypatch.setattr('warnings.filters', [('ignore', None, Warning, None, 0)])
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(decode.read_image, paths['plain'])
        first_began.wait(5)
        second = threads.submit(decode.read_image, paths['bomb'])
        first.result()
        first_ended.set()
        assert isinstance(second.exception(), decode.ImageError)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 48), st.sampled_from(Interpolation))
def test_an_image_of_any_size_is_resized_to_the_square(height, width, target, interpolation):
    found = resized(np.zeros((height, width, 3), np.uint8), target, interpolation)
    assert (found.shape, found.dtype) == ((target, target, 3), np.uint8)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(8, 90),
    st.floats(0.25, 4),
    st.integers(1, 48),
    st.sampled_from(['bilinear', 'bicubic']),
    st.randoms(use_true_random=False),
)
def test_resizing_equals_torchvisions_resize_and_centre_crop(height, ratio, target, name, random):
    """Its `_compute_resized_output_size` and `center_crop`, version 0.21, on Pillow images."""
    width = max(1, round(height * ratio))
    pixels = np.frombuffer(random.randbytes(height * width * 3), np.uint8)
    image = Image.fromarray(pixels.reshape(height, width, 3))
    short, long = sorted(image.size)
    new_long = int(target * long / short)
    new_size = (target, new_long) if width <= height else (new_long, target)
    if short != target:
        image = image.resize(new_size, Image.Resampling[name.upper()])
    left, top = (round((n - target) / 2.0) for n in image.size)
    wanted = np.asarray(image.crop((left, top, left + target, top + target)))
    found = resized(pixels.reshape(height, width, 3), target, Interpolation(name))
    np.testing.assert_allclose(found.astype(int), wanted, atol=1)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 255), st.integers(1, 40), st.integers(1, 40), st.sampled_from(Interpolation))
def test_one_colour_stays_that_colour(value, height, width, interpolation):
    pixels = np.full((height, width, 3), value, np.uint8)
    assert (resized(pixels, 16, interpolation) == value).all()


def test_an_image_of_the_right_size_is_unchanged():
    pixels = np.asarray(noise(32, 32))
    np.testing.assert_array_equal(resized(pixels, 32), pixels)


@pytest.mark.parametrize('upright', [True, False])
def test_an_image_whose_short_side_is_right_is_only_cropped(upright):
    pixels = np.asarray(noise(32, 52))
    wanted = pixels[:, 10:42]
    if upright:
        pixels, wanted = pixels.swapaxes(0, 1), wanted.swapaxes(0, 1)
    np.testing.assert_array_equal(resized(pixels, 32), wanted)


def test_a_very_long_image_is_cut_before_it_is_resized(monkeypatch):
    """1 x 5000 px at 256 px would be a gigabyte, of which a centre of 200 kB is kept."""
    made, resize = [], Image.Image.resize

    def watched(self, *args, **kwargs):
        made.append(resize(self, *args, **kwargs))
        return made[-1]

    monkeypatch.setattr(Image.Image, 'resize', watched)
    assert resized(np.zeros((1, 5000, 3), np.uint8), 8).shape == (8, 8, 3)
    assert made
    assert max(image.width * image.height for image in made) < 100 * 8 * 8


def photograph(height, width):
    """A smooth picture, as a JPEG can hold it."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 120 * np.sin(x / a) * np.cos(y / b) for a, b in ((31, 17), (23, 41), (53, 29))]
    return Image.fromarray(np.stack(waves, -1).astype(np.uint8))


@pytest.mark.parametrize('options', [{}, {'subsampling': 0}, {'progressive': True}])
def test_a_jpeg_is_decoded_to_pillows_pixels(options):
    data = encoded(photograph(120, 170), 'jpeg', **options)
    wanted = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode.decode(data, 'photograph'), wanted)


def test_real_photographs_are_decoded_to_pillows_pixels(real_data):
    for path in sorted((real_data / 'imagenet_check/images').iterdir())[:20]:
        wanted = np.asarray(Image.open(path).convert('RGB'))
        np.testing.assert_array_equal(decode.read_image(path), wanted)


def test_scaled_decoding_keeps_twice_the_size():
    """2000 px at 1/4 are 500: no less than twice 128, and 1/8 would be."""
    data = encoded(photograph(2000, 2400), 'jpeg')
    assert decode.decode(data, 'photograph', 256).shape == (500, 600, 3)


@pytest.mark.parametrize('size', [(100, 90), (256, 300), (400, 420)])  # 5/8 is slower than 1
def test_images_below_twice_the_least_size_are_decoded_at_full_size(size):
    data = encoded(photograph(*size), 'jpeg')
    assert decode.decode(data, 'photograph', 256).shape == (*size, 3)


@pytest.mark.parametrize('scaled', [False, True])
def test_scaled_decoding_is_close_to_full_decoding(scaled):
    data = encoded(photograph(1200, 1000), 'jpeg', quality=95)
    wanted = Preprocessing(size_px=64, resize_px=64, scaled_decoding=scaled)
    whole = np.asarray(Image.open(io.BytesIO(data)))
    difference = decode.decode_resized(data, 'photograph', wanted).astype(int) - resized(whole, 64)
    assert np.abs(difference).mean() < (1 if scaled else 1e-9)


def test_html_is_distinguished_from_a_damaged_image():
    with pytest.raises(decode.ImageError, match='it is HTML or XML'):
        decode.decode(DAMAGED['HTML'], 'page.jpg')
