"""Images deeper than 8 bits, and the one range of a data set."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tljax.data import bit_depth, decode, decoded_images, labelled
from tljax.data.bit_depth import RangeError
from tljax.data.folder import Folder
from tljax.types import BadFiles, Preprocessing

RNG = np.random.default_rng(0)
STEPS = np.linspace(0, 1, 4096).reshape(64, 64)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def folder(root, train, test=None, suffix='tif'):
    """Two classes; each is shown one of the training images."""
    for name, values in zip(('cat', 'dog'), train, strict=True):
        save(root / 'train' / name / f'0.{suffix}', values)
        save(root / 'test' / name / f'0.{suffix}', values if test is None else test)
    return Folder(path=str(root)).splits()


def levels(image):
    return len(np.unique(image))


# Values of a set's two training images, and the range that is meant.
SETS = {
    '12 bits in 16': (np.round(STEPS * 4095).astype(np.uint16), (0, 4095)),
    '14 bits in 16': (np.round(STEPS * 4).astype(np.uint16) * 4095, (0, 16383)),
    '16 bits': (np.round(STEPS * 65535).astype(np.uint16), (0, 65535)),
    '8 bits in 32': (np.round(STEPS * 255).astype(np.int32), (0, 255)),
    'Hounsfield units': (np.round(STEPS * 4095 - 1024).astype(np.int32), (-1024, 3071)),
    'floats above 255': (np.float32(STEPS * 1000), (0, 1000)),
    'floats to 1': (np.float32(STEPS), (0, 1)),
    'floats of 8 bits': (np.float32(np.round(STEPS * 255)), (0, 255)),
    'floats from -1': (np.float32(STEPS * 2 - 1), (-1, 1)),
    'faint floats': (np.float32(STEPS * 1e-3), (0, np.float32(1e-3))),
}


@pytest.mark.parametrize('name', SETS)
def test_one_range_of_a_set_keeps_its_levels(name, tmp_path):
    values, wanted = SETS[name]
    splits = folder(tmp_path, (values[:32], values[32:]), values)
    assert splits['train'].findings.gray_range() == pytest.approx(wanted)
    found = splits['test'].load(0)
    exact = (values.astype(float) - wanted[0]) * 255 / (wanted[1] - wanted[0])
    np.testing.assert_allclose(found[..., 0], exact, atol=0.501)
    assert levels(found) == min(256, len(np.unique(values)))


def test_a_dark_test_image_is_scaled_as_the_training_images(tmp_path):
    values = SETS['12 bits in 16'][0]
    splits = folder(tmp_path, (values, values), values // 16)
    assert splits['test'].load(0).max() == 16


def test_big_endian_sixteen_bits_are_read(tmp_path):
    values = SETS['12 bits in 16'][0]
    splits = folder(tmp_path, (values.astype('>u2'), values.astype('>u2')))
    np.testing.assert_allclose(splits['train'].load(0)[..., 0], values * (255 / 4095), atol=0.501)


def test_nan_is_black_and_infinity_white(tmp_path):
    values = np.float32(STEPS * 1000)
    values[0, :3] = (np.nan, np.inf, -np.inf)
    splits = folder(tmp_path, (values, np.float32(STEPS * 1000)))
    assert splits['train'].load(0)[0, :3, 0].tolist() == [0, 255, 0]


@pytest.mark.parametrize('value', [0, 7, -3, 1000, 0.25])
def test_constant_images_are_one_level(value, tmp_path):
    values = np.full((4, 4), value, np.int32 if isinstance(value, int) else np.float32)
    assert levels(folder(tmp_path, (values, values))['train'].load(0)) == 1


def test_a_single_value_far_off_is_refused_with_the_field(tmp_path):
    values = SETS['12 bits in 16'][0].copy()
    values[0, 0] = 65535
    splits = folder(tmp_path, (values, values))
    with pytest.raises(RangeError, match=r'18 of 256 levels .* set config\.gray_range=\(LOW, HIGH'):
        splits['train'].load(0)
    wanted = Preprocessing(size_px=64, resize_px=64, gray_range=(0, 4095))
    assert levels(decoded_images.wrap(splits, wanted, 0)['train'].load(0)) == 256


def test_sets_of_8_bits_are_not_scanned(tmp_path, monkeypatch):
    monkeypatch.setattr(bit_depth, 'values_of', None)
    values = np.round(STEPS * 255).astype(np.uint8)
    splits = folder(tmp_path, (values, values), suffix='png')
    assert not splits['train'].findings.deep
    assert splits['train'].findings.gray_range is None
    np.testing.assert_array_equal(splits['train'].load(0), np.dstack([values] * 3))


def test_images_of_8_bits_among_deep_ones_stay_as_they_are(tmp_path):
    gray = np.round(STEPS * 255).astype(np.uint8)
    splits = folder(tmp_path, (gray, SETS['12 bits in 16'][0]))
    np.testing.assert_array_equal(splits['train'].load(0)[..., 0], gray)
    assert levels(splits['train'].load(1)) == 256


def test_deep_gray_without_a_known_range_is_refused(tmp_path):
    save(tmp_path / 'a.png', SETS['12 bits in 16'][0])
    with pytest.raises(decode.ImageError, match=r'uint16 from 0 to 4095.*set gray_range'):
        decode.read_image(tmp_path / 'a.png')
    assert levels(decode.read_image(tmp_path / 'a.png', (0, 4095))) == 256


def test_evaluation_data_is_scaled_by_the_range_of_the_network_and_not_scanned(tmp_path):
    folder(tmp_path, [SETS['12 bits in 16'][0]] * 2)
    examples = labelled.read(str(tmp_path), bad_files=BadFiles.SKIP).examples
    assert not examples.findings.bad
    wanted = Preprocessing(size_px=64, resize_px=64, gray_range=(0, 8190))
    assert decoded_images.wrap({'': examples}, wanted, 0)[''].load(0).max() == 128


def test_images_of_another_range_are_cached_separately():
    ranges = (None, (0.0, 1.0), (0.0, 2.0))
    assert len({decoded_images.settings(Preprocessing(gray_range=one)) for one in ranges}) == 3


def png16(values, kind):
    """A PNG of 16 bits, which Pillow does not write in colour."""
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)

    def chunk(name, data):
        return (
            struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        )

    head = struct.pack('>IIBBBBB', values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    parts = chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + parts


@pytest.mark.parametrize(('kind', 'channels'), [(2, 3), (4, 2), (6, 4)])
def test_all_16_bits_of_colours_are_read(kind, channels):
    values = RNG.integers(0, 4096, (5, 7, channels))
    if channels != 3:
        values[..., -1] = 65535
    data = png16(values, kind)
    with Image.open(io.BytesIO(data)) as image:
        assert bit_depth.is_deep(image)
    found = decode.decode(data, 'image', gray_range=(0, 4095))
    colours = values[..., :3] if channels > 2 else values[..., :1]
    wanted = np.broadcast_to(colours * (255 / 4095), (5, 7, 3))
    np.testing.assert_allclose(found, wanted, atol=0.501)


def test_colours_of_16_bits_without_a_range_are_of_all_16():
    values = RNG.integers(0, 65536, (5, 7, 3))
    found = decode.decode(png16(values, 2), 'image')
    np.testing.assert_allclose(found, values / 257, atol=0.501)


def test_transparency_of_16_bits_is_laid_on_white():
    values = np.zeros((2, 2, 4), int)
    assert decode.decode(png16(values, 6), 'image', gray_range=(0, 4095)).min() == 255
