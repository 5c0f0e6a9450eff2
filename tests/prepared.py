"""A small set, prepared by TensorFlow Datasets as array_record, without TensorFlow."""

import io
import pathlib

import tensorflow_datasets as tfds
from PIL import Image

CLASSES = ('cat', 'dog')


class Tiny(tfds.core.GeneratorBasedBuilder):
    """Images of one colour: red is the number of the example, from 100 in the test split."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                'image': tfds.features.Image(shape=(None, None, 3)),
                'label': tfds.features.ClassLabel(names=CLASSES),
                'file': tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {
            'train': self._generate_examples(0, 10),
            'test': self._generate_examples(100, 6),
        }

    def _generate_examples(self, first, count):
        for number in range(first, first + count):
            buffer = io.BytesIO()
            Image.new('RGB', (20, 10), (number, 0, 0)).save(buffer, 'png')
            buffer.seek(0)
            yield number, {'image': buffer, 'label': number % 2, 'file': f'{number}.png'}


def prepare(folder: pathlib.Path) -> None:
    """Writes the set below a folder."""
    Tiny(data_dir=folder, file_format='array_record').download_and_prepare()
