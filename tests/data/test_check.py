"""The full check of a data set: `tljax data`."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tljax.commands.data import main
from tljax.data import check, files


def picture(seed, size=(120, 90)):
    """A picture like no other, with large things and small ones, as photographs have."""
    rng = np.random.default_rng(seed)
    layers = [
        Image.fromarray(rng.integers(0, 256, (3 * n, 4 * n, 3), np.uint8)).resize(size, 3)
        for n in (1, 2, 4, 8, 16)
    ]
    weights = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    return Image.fromarray(np.tensordot(weights, np.stack(layers), 1).astype(np.uint8))


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, 'jpeg', **{'quality': 92, **options})
    return buffer.getvalue()


def damaged_inside(data):
    """With a block of zeros in the compressed pixels, which Pillow decodes."""
    middle = len(data) // 2
    broken = data[:middle] + bytes(512) + data[middle + 512 :]
    np.asarray(Image.open(io.BytesIO(broken)))  # without an error
    return broken


@pytest.fixture
def root(tmp_path, monkeypatch) -> pathlib.Path:
    """Two classes of two pictures, in `train` and in `test`; the current folder is beside it."""
    number = 0
    for split in ('train', 'test'):
        for name in ('cat', 'dog'):
            (tmp_path / 'data' / split / name).mkdir(parents=True)
            for index in range(2):
                path = tmp_path / 'data' / split / name / f'{index}.jpg'
                path.write_bytes(jpeg(picture(number)))
                number += 1
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    return tmp_path / 'data'


@pytest.fixture
def checked(root, capsys):
    """Runs the check; returns its exit code and what it printed."""

    def run(*arguments):
        code = main([str(root), *arguments])
        return code, capsys.readouterr().out

    return run


def test_a_sound_data_set_is_called_sound(checked):
    code, text = checked()
    assert code == 0
    assert 'No problems.' in text


def test_images_are_counted_by_class_and_split(root, checked):
    (root / 'train/cat/more.jpg').write_bytes(jpeg(picture(99)))
    lines = [line.split() for line in checked()[1].splitlines()]
    assert lines[:4] == [
        ['class', 'train', 'test'],
        ['cat', '3', '2'],
        ['dog', '2', '2'],
        ['total', '5', '4'],
    ]


def test_a_jpeg_with_damage_in_its_middle_is_detected(root, checked):
    path = root / 'train/dog/0.jpg'
    path.write_bytes(damaged_inside(path.read_bytes()))
    assert files.check_file(path) is None  # the quick look cannot
    code, text = checked()
    assert code == 1
    assert f'1 unusable file(s):\n  {path}: damaged inside: ' in text


@pytest.mark.parametrize('mode', ['L', 'CMYK', 'RGB'])
def test_a_good_jpeg_of_any_color_space_is_not_reported_as_damaged(mode, root, checked):
    (root / 'train/dog/more.jpg').write_bytes(jpeg(picture(50).convert(mode)))
    assert checked()[0] == 0


def test_bad_files_of_other_kinds_are_listed_together(root, checked):
    (root / 'train/dog/empty.jpg').write_bytes(b'')
    (root / 'test/cat/page.jpg').write_bytes(b'<html>')
    code, text = checked()
    assert code == 1
    assert '2 unusable file(s)' in text


def test_the_same_file_in_two_splits_is_a_leak(root, checked):
    (root / 'test/cat/copy.jpg').write_bytes((root / 'train/cat/0.jpg').read_bytes())
    code, text = checked()
    assert code == 1
    assert (
        '1 exact duplicate(s) in several splits (leakage):\n'
        f'  {root}/train/cat/0.jpg = {root}/test/cat/copy.jpg' in text
    )


CHANGES = {
    'recompressed': lambda image: jpeg(image, quality=40),
    'smaller': lambda image: jpeg(image.resize((80, 60), Image.Resampling.LANCZOS)),
    'larger': lambda image: jpeg(image.resize((240, 180), Image.Resampling.BICUBIC)),
    'brighter': lambda image: jpeg(ImageEnhance.Brightness(image).enhance(1.08)),
    'in gray': lambda image: jpeg(image.convert('L')),
}


@pytest.mark.parametrize('name', CHANGES)
def test_nearly_the_same_picture_in_two_splits_is_a_leak(name, root, checked):
    (root / 'test/cat/copy.jpg').write_bytes(CHANGES[name](picture(0)))
    code, text = checked()
    assert code == 1
    assert (
        '1 near duplicate(s) in several splits (leakage):\n'
        f'  {root}/train/cat/0.jpg = {root}/test/cat/copy.jpg' in text
    )


def test_near_duplicates_within_a_split_are_no_leak(root, checked):
    (root / 'train/cat/copy.jpg').write_bytes(CHANGES['recompressed'](picture(0)))
    assert checked()[0] == 0


def test_pictures_of_one_colour_are_not_taken_for_each_other(root, checked):
    for split, level in (('train', 250), ('test', 252)):
        (root / split / 'cat/plain.jpg').write_bytes(jpeg(Image.new('RGB', (50, 50), (level,) * 3)))
    assert checked()[0] == 0


def test_the_same_file_in_two_classes_is_reported(root, checked):
    (root / 'train/dog/copy.jpg').write_bytes((root / 'train/cat/0.jpg').read_bytes())
    code, text = checked()
    assert code == 1
    assert '1 exact duplicate(s) in several classes' in text


def test_the_same_file_twice_in_a_class_is_reported_but_no_problem(root, checked):
    (root / 'train/cat/copy.jpg').write_bytes((root / 'train/cat/0.jpg').read_bytes())
    code, text = checked()
    assert code == 0
    assert '1 exact duplicate(s) within a split' in text


def test_a_png_named_jpg_is_reported_but_no_problem(root, checked):
    picture(70).save(root / 'train/cat/really.jpg', 'png')
    code, text = checked()
    assert code == 0
    assert 'train/cat/really.jpg: named .jpg but a PNG' in text


def test_skipped_files_are_reported(root, checked):
    (root / 'train/cat/.hidden.jpg').write_bytes(b'')
    assert '1 hidden file(s) and folder(s) skipped' in checked()[1]


def test_the_sheet_has_a_row_of_pictures_for_each_class(root, checked):
    checked('--out=sheet.png')
    sheet = Image.open('sheet.png').convert('RGB')
    row = check.THUMB_PX + check.CAPTION_PX + 4
    assert sheet.height == 2 * row
    thumb = np.asarray(
        Image.open(root / 'train/cat/0.jpg').resize((128, 96)).crop((16, 0, 112, 96))
    )
    drawn = np.asarray(sheet)[check.CAPTION_PX : check.CAPTION_PX + 96, :96]
    assert np.abs(drawn.astype(int) - thumb).mean() < 4


def test_nothing_is_written_into_the_data_set(root, checked):
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    checked()
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before


def test_a_sheet_inside_the_data_set_is_refused(root, checked):
    checked(f'--out={root}/sheet.png')
    assert not (root / 'sheet.png').exists()


def test_a_folder_without_a_data_set_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / 'nowhere')]) == 2
    assert 'no such folder' in capsys.readouterr().err


def test_a_list_of_files_is_checked_as_well(root, checked, capsys):
    rows = ['path,label,split'] + [
        f'{path},{path.parent.name},{path.parts[-3]}' for path in sorted(root.rglob('*.jpg'))
    ]
    pathlib.Path('list.csv').write_text('\n'.join(rows))
    assert main(['list.csv']) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ['cat', '2', '2']


def test_no_near_duplicate_is_missed_by_comparing_candidates_only():
    """Against all pairs, on hashes that differ in few bits."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, 40)
    flips = [sum(1 << int(b) for b in rng.choice(64, rng.integers(0, 9), False)) for _ in base]
    gray = np.zeros((16, 16), np.uint8)
    sides = (
        ('train', base.tolist()),
        ('test', [int(h) ^ f for h, f in zip(base, flips, strict=True)]),
    )
    seen = [
        check.CheckedImage(path=pathlib.Path(f'{split}{i}'), split=split, label=0,
                           sha256=f'{split}{i}', hash=value, gray=gray)
        for split, values in sides
        for i, value in enumerate(values)
    ]  # fmt: skip
    found = {(a.path, b.path) for a, b in check.near_duplicates(seen)}
    wanted = {
        (a.path, b.path)
        for a in seen[:40]
        for b in seen[40:]
        if (a.hash ^ b.hash).bit_count() <= check.NEAR_BITS
    }
    assert found == wanted
    assert 0 < len(wanted) < 40


@pytest.fixture
def several(root, capsys):
    """Runs the check of a list in which an image has both labels and one has none."""
    rows = [
        ('train/cat/0.jpg', 'cat', 'train'),
        ('train/cat/1.jpg', 'cat;dog', 'train'),
        ('test/cat/0.jpg', ';', 'test'),
    ]

    def run(*more):
        lines = ['path,label,split', *(','.join(row) for row in (*rows, *more))]
        (root / 'list.csv').write_text('\n'.join(lines))
        code = main([str(root / 'list.csv'), '--out=sheet.png'])
        return code, capsys.readouterr().out

    return run


def test_an_image_with_several_labels_is_counted_in_the_row_of_each(several):
    code, text = several()
    assert code == 0
    assert [line.split() for line in text.splitlines()[:5]] == [
        ['class', 'train', 'test'],
        ['cat', '2', '0'],
        ['dog', '1', '0'],
        ['(no', 'label)', '0', '1'],
        ['total', '2', '1'],
    ]
    assert 'An image has 1 labels on average, and counts in the row of each label.' in text


def test_the_sheet_has_a_row_for_images_without_a_label(several):
    several()
    with Image.open('sheet.png') as sheet:
        assert sheet.height == 3 * (check.THUMB_PX + check.CAPTION_PX + 4)
        last = np.asarray(sheet)[2 * sheet.height // 3 + check.CAPTION_PX :]
    assert (last[: check.THUMB_PX, : check.THUMB_PX] < 250).any()


def test_the_same_file_with_other_labels_is_reported(root, several):
    (root / 'copy.jpg').write_bytes((root / 'train/cat/1.jpg').read_bytes())
    code, text = several(('copy.jpg', 'cat', 'train'))
    assert code == 1
    assert '1 exact duplicate(s) with other labels:' in text
