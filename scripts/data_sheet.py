"""Draws docs/data_sheet.png: the contact sheet of `tljax data` for a folder of printed characters.

python -m scripts.data_sheet --out=docs/data_sheet.png
"""

import argparse
import pathlib
import tempfile

from PIL import Image

from tljax.commands import data
from tljax.data.glyphs import Glyphs

SOURCE = Glyphs(characters='AEKR7', train_per_class=24, size_px=32, bend=1.4)


def main() -> int:
    """Writes the images as files, runs the check, and returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='docs/data_sheet.png')
    out = parser.parse_args().out
    examples = SOURCE.splits()['train']
    with tempfile.TemporaryDirectory() as folder:
        for index, label in enumerate(examples.labels):
            path = pathlib.Path(folder, examples.class_names[label], f'{index}.png')
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(examples.load(index)).save(path)
        return data.main([folder, f'--out={out}'])


if __name__ == '__main__':
    raise SystemExit(main())
