"""What is known of published files, and where it is told."""

import pathlib

import pytest

from scripts import weights_table
from tljax.types import Interpolation
from tljax.weights import published

DOCS = pathlib.Path(__file__).parents[2] / 'docs'


def test_the_table_in_the_docs_is_the_one_that_is_used():
    assert weights_table.table() in (DOCS / 'weights.md').read_text()


@pytest.mark.parametrize('name', published.names())
def test_a_published_name_ends_in_eight_digits_of_its_sum(name):
    assert len(digits := name.rpartition('-')[2]) == 8
    assert int(digits, 16) >= 0


@pytest.mark.parametrize(
    ('name', 'size_px', 'resize_px'),
    [
        ('resnet50-0676ba61', 224, 256),
        ('resnet50-11ad3fa6', 224, 232),
        ('convnext_small-0c510722', 224, 230),
        ('vit_l_16-852ce7e3', 224, 242),
    ],
)
def test_the_second_weights_of_a_network_have_their_own_preprocessing(name, size_px, resize_px):
    shown = published.card(name).preprocessing
    assert shown is not None
    assert (shown.size_px, shown.resize_px) == (size_px, resize_px)
    assert shown.interpolation is Interpolation.BILINEAR


def test_swags_images_are_whole_and_bicubic_and_not_for_commerce():
    card = published.card('vit_b_16_swag-9ac1b537')
    assert card.preprocessing is not None
    assert (card.preprocessing.size_px, card.preprocessing.resize_px) == (384, 384)
    assert card.preprocessing.interpolation is Interpolation.BICUBIC
    assert 'NC' in str(card.licence)


def test_nothing_is_made_up_for_other_files():
    assert published.card('my_resnet50') == published.Card()


def test_imagenets_classes_are_a_thousand_different_names_in_the_order_of_their_ids():
    names = published.imagenet_classes()
    assert len(set(names)) == 1000
    assert names[0] == 'tench'
    assert names[8] == 'hen'
    ids = [line.split('\t')[0] for line in published.IMAGENET_FILE.read_text().splitlines()]
    assert ids == sorted(ids)
