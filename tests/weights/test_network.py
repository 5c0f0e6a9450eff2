"""A pretrained network in Python: `tljax.load`."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from PIL import Image

import tljax
from tests import golden_small
from tljax import tree
from tljax.data import decode
from tljax.models import heads, port, stages
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.backbones.vit import ViT
from tljax.types import InputError, Interpolation, Preprocessing

BACKBONE = ResNetSmall(depth=20)
TINY_VIT = ViT(width=64, depth=2, patch_px=16, size_px=32)
CLASSES = golden_small.NUM_CLASSES


def state_dict(backbone, naming, classes=CLASSES):
    """A foreign state dict by formula, as a library would save it."""
    params, stats = stages.shapes(stages.build(backbone, classes))
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    zeros = {path: np.broadcast_to(np.int8(0), leaf.shape) for path, leaf in leaves.items()}
    foreign = port.to_foreign(zeros, backbone.port_tables()[naming])
    return {name: golden_small.tensor(name, array.shape) for name, array in foreign.items()}


@pytest.fixture(scope='module')
def entries():
    return state_dict(BACKBONE, 'akamaster')


@pytest.fixture(scope='module')
def network(entries):
    return tljax.load(entries)


@pytest.fixture(scope='module')
def vit_entries():
    return state_dict(TINY_VIT, 'timm')


@pytest.fixture(scope='module')
def gray_network(entries):
    return tljax.load(entries, channels=1)


def assert_same(one, other, names=None):
    """Two networks have equal modules and values; in some stages, or in all."""
    names = names or one.model.names
    for name in names:
        assert one.model.stages[name] == other.model.stages[name]
        values = ((n.params[name], n.stats.get(name)) for n in (one, other))
        jax.tree.map(np.testing.assert_array_equal, *values)
    assert one.preprocessing == other.preprocessing


def gray(size=32):
    """Normalised images [2, size, size, 1]."""
    return golden_small.images(2, size)[..., :1]


def test_a_state_dict_in_memory_gives_the_logits_of_its_library(network):
    x = golden_small.images(2, golden_small.SIZE_PX['resnet_small20'])
    wanted = golden_small.figures()['resnet_small20']['eval_logits']
    atol = 1e-4 * np.abs(wanted).max()
    np.testing.assert_allclose(network.logits(x), wanted, rtol=0, atol=atol)


class Tensor:
    """What of a torch parameter is used: it has to be detached, and may be on another device."""

    dtype = 'torch.float32'

    def __init__(self, array):
        self.shape, self._array = array.shape, array

    def detach(self):
        """See torch."""
        return self

    def cpu(self):
        """See torch."""
        return self

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype)


def test_a_state_dict_of_tensors_gives_the_same_network(entries, network):
    assert_same(tljax.load({name: Tensor(array) for name, array in entries.items()}), network)


def test_what_it_is_of_is_recognised(network):
    assert network.backbone == BACKBONE
    assert (network.origin.format, network.origin.naming) == ('memory', 'akamaster')


def test_our_own_paths_give_the_same_network(network):
    own = tree.flatten({'params': network.params, 'batch_stats': network.stats})
    assert_same(tljax.load(own), network)


def test_features_of_a_stage_are_what_the_following_ones_turn_into_logits(network):
    x = golden_small.images(2, 32)
    middle = network.features(x, stage='stage2')
    rest, _ = stages.run(network.model, network.params, network.stats, middle, start='stage3')
    np.testing.assert_allclose(rest, network.logits(x), rtol=1e-4, atol=1e-4)


def test_features_are_those_of_the_last_stage_before_the_head_unless_told(network):
    x = golden_small.images(2, 32)
    np.testing.assert_array_equal(network.features(x), network.features(x, stage='stage3'))


def test_a_stage_that_is_not_there_is_answered_with_those_that_are(network):
    with pytest.raises(InputError, match=r"'stage9'.*'stem', 'stage1'"):
        network.features(golden_small.images(1, 32), stage='stage9')


def pictures():
    """Photographs of several sizes."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((40, 60), (32, 32), (91, 33))]


def test_images_of_any_size_are_resized_cut_and_normalised_as_in_training(network):
    shown = network.preprocessing
    canvases = np.stack([decode.resize_square(image, shown) for image in pictures()])
    x = stages.normalise(shown, canvases)
    wanted = jax.nn.softmax(network.logits(x))
    np.testing.assert_allclose(network.predict(pictures()), wanted, atol=1e-6)


def test_one_image_is_a_batch_of_one(network):
    image = pictures()[0]
    np.testing.assert_array_equal(network.predict(image), network.predict([image]))
    assert network.predict(image).shape == (1, CLASSES)


def test_more_images_than_fit_at_once_are_all_predicted_in_order(network, monkeypatch):
    monkeypatch.setattr('tljax.weights.network.BATCH_SIZE', 2)
    one_by_one = np.concatenate([network.predict(image) for image in pictures()])
    np.testing.assert_allclose(network.predict(pictures()), one_by_one, atol=1e-6)


def test_no_images_are_no_predictions(network):
    assert network.predict([]).shape == (0, CLASSES)


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=['floats', 'no channels', 'four channels', 'empty'],
)
def test_an_image_of_another_form_is_refused_with_the_form_wanted(image, network):
    with pytest.raises(InputError, match=r'wanted \[h, w, 3\] uint8'):
        network.predict([image])


# --- what images may be ---


def test_preprocess_gives_what_the_network_takes(network):
    x = network.preprocess(pictures())
    assert (x.shape, x.dtype) == ((3, 32, 32, 3), np.float32)
    probabilities = jax.nn.softmax(network.logits(x))
    np.testing.assert_allclose(probabilities, network.predict(pictures()), atol=1e-6)


def test_no_images_are_preprocessed_to_an_empty_batch(network):
    assert network.preprocess([]).shape == (0, 32, 32, 3)


@pytest.fixture
def turned(tmp_path):
    """A JPEG file whose EXIF block says that it lies on its side, and its upright pixels."""
    path = tmp_path / 'turned.jpg'
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pictures()[0]).save(path, exif=exif)
    return path, decode.read_image(path)


def test_a_path_and_a_pil_image_are_decoded_as_in_training(network, turned):
    path, upright = turned
    wanted = network.preprocess(upright)
    with Image.open(path) as image:
        for shown in (path, str(path), image, [path], [image]):
            np.testing.assert_allclose(network.preprocess(shown), wanted, atol=0.02)
            assert network.predict(shown).shape == (1, CLASSES)


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', '1', 'CMYK'])
def test_pil_images_of_every_mode_are_taken(network, mode):
    image = Image.fromarray(pictures()[0]).convert(mode)
    wanted = network.preprocess(np.asarray(image.convert('RGB')))
    np.testing.assert_array_equal(network.preprocess(image), wanted)


def test_kinds_of_images_can_be_mixed_in_one_sequence(network, turned):
    path, upright = turned
    mixed = network.preprocess(iter([path, Image.fromarray(upright), upright]))
    np.testing.assert_array_equal(mixed[1], mixed[2])
    assert len(mixed) == 3


def test_a_network_of_one_channel_takes_gray_arrays_beside_paths(gray_network, turned):
    gray_image = pictures()[0][..., :1]
    both = gray_network.preprocess([gray_image, turned[0]])
    np.testing.assert_allclose(both[:1], gray_network.preprocess(gray_image), atol=1e-5)


@pytest.mark.parametrize(
    ('images', 'said'),
    [
        ('nowhere.jpg', 'nowhere.jpg'),
        (None, 'NoneType'),
        ({'a': 1}, 'dict'),
        (7, 'int'),
        ([None], 'object'),
        (np.zeros((8, 8), np.uint8), r'\[8\] uint8'),
        (np.zeros((2, 8, 8, 3), np.float32), 'float32'),
    ],
    ids=['missing file', 'None', 'dict', 'number', 'None in a list', 'gray', 'floats'],
)
def test_what_is_no_image_is_refused_in_a_line(network, images, said):
    for method in (network.preprocess, network.predict):
        with pytest.raises(InputError, match=said) as caught:
            method(images)
        assert '\n' not in str(caught.value)


def test_a_file_is_refused_by_a_network_of_five_channels(entries, turned):
    with pytest.raises(InputError, match=r'wanted an array \[h, w, 5\] uint8'):
        tljax.load(entries, channels=5).predict(turned[0])


@pytest.mark.parametrize(
    'x',
    [
        np.zeros((1, 32, 32, 3), np.uint8),
        np.zeros((1, 32, 32, 3), np.int32),
        np.zeros((1, 32, 32, 3), bool),
        [[[[0, 1, 2]]]],
        np.full((1, 32, 32, 3), 200.0, np.float32),
        np.zeros((1, 32, 32, 1), np.float32),
        np.zeros((1, 3, 32, 32), np.float32),
        np.zeros((32, 32, 3), np.float32),
        'cat.jpg',
        None,
    ],
    ids=['uint8', 'int32', 'bool', 'list', 'pixels', 'gray', 'channels first', 'one', 'path', '-'],
)
def test_what_is_not_normalised_is_refused_with_what_makes_it_so(network, x):
    for method in (network.logits, network.features):
        with pytest.raises(InputError, match=r'network\.preprocess\(images\)'):
            method(x)


def test_the_dtype_is_checked_inside_a_compiled_function_too(network):
    x, stem = golden_small.images(1, 32), functools.partial(network.features, stage='stem')
    np.testing.assert_allclose(jax.jit(stem)(x), stem(x), atol=1e-4)
    with pytest.raises(InputError, match='uint8'):
        jax.jit(stem)(np.zeros((1, 32, 32, 3), np.uint8))


def test_a_network_is_shown_in_one_line(network):
    assert repr(network) == (
        'Network(ResNetSmall, stages stem stage1 stage2 stage3 head, 269,592 parameters, '
        f"{CLASSES} classes, images 32 x 32 x 3, weights '{network.origin.source}')"
    )


# --- heads ---


def test_another_number_of_classes_replaces_the_head_and_says_so(entries, capsys):
    other = tljax.load(entries, num_classes=5)
    assert jax.eval_shape(other.logits, golden_small.images(2, 32)).shape == (2, 5)
    assert other.notes[0] == f'The head is new: 5 classes instead of {CLASSES}.'
    assert other.notes[0] in capsys.readouterr().out


def test_the_stages_below_a_new_head_keep_their_values(entries, network):
    assert_same(tljax.load(entries, num_classes=5), network, network.model.names[:-1])


def test_the_same_number_of_classes_keeps_the_head(entries, network):
    same = tljax.load(entries, num_classes=CLASSES)
    assert_same(same, network)
    assert not any('head' in note for note in same.notes)


def test_a_new_head_starts_from_zeros_unless_told(entries):
    head = tljax.load(entries, num_classes=5).params['head']
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(head))
    small = heads.LinearHead(kernel_std=0.01)
    head = tljax.load(entries, num_classes=5, head=small).params['head']
    assert np.any(head['linear']['kernel'])


def test_a_head_of_ones_own_takes_the_place_of_the_pretrained_one(entries):
    head = heads.MLPHead(hidden=(16, 12), pooling=heads.Pooling.CONCATENATED)
    other = tljax.load(entries, head=head)
    assert other.params['head']['hidden1']['kernel'].shape == (2 * 64, 16)
    assert jax.eval_shape(other.logits, golden_small.images(1, 32)).shape == (1, CLASSES)


def test_a_pretrained_head_cannot_be_kept_for_other_classes(entries):
    with pytest.raises(InputError, match=f'for {CLASSES} classes, wanted 5'):
        tljax.load(entries, num_classes=5, head='pretrained')


@pytest.fixture(scope='module')
def headless(entries):
    return {name: array for name, array in entries.items() if not name.startswith('linear')}


def test_weights_without_a_head_get_a_new_one(headless, network):
    assert_same(tljax.load(headless, num_classes=5), network, network.model.names[:-1])


def test_weights_without_a_head_ask_for_the_number_of_classes(headless):
    with pytest.raises(InputError, match='give num_classes'):
        tljax.load(headless)


def test_a_head_that_is_not_there_cannot_be_kept(headless):
    with pytest.raises(InputError, match='have no head to keep'):
        tljax.load(headless, num_classes=5, head='pretrained')


# --- channels ---


def test_one_channel_gives_what_the_same_image_in_every_channel_gave(gray_network, network):
    """After the first stage, whose kernels alone were adapted."""
    wanted = network.features(np.repeat(gray(), 3, -1), 'stem')
    found = gray_network.features(gray(), 'stem')
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    names = network.model.names[1:]
    jax.tree.map(
        np.testing.assert_array_equal,
        *({name: n.params[name] for name in names} for n in (gray_network, network)),
    )


def test_a_multiple_of_the_channels_gives_what_the_same_image_in_every_channel_gave(
    entries, network
):
    other = tljax.load(entries, channels=6)
    wanted = network.features(np.repeat(gray(), 3, -1), 'stem')
    found = other.features(np.repeat(gray(), 6, -1), 'stem')
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('channels', [2, 4, 5])
def test_other_channels_repeat_the_kernels_in_order_scaled_by_old_over_new(
    channels, entries, network
):
    kernel = np.asarray(network.params['stem']['conv1']['kernel'])
    found = tljax.load(entries, channels=channels).params['stem']['conv1']['kernel']
    wanted = np.stack([kernel[:, :, c % 3] * 3 / channels for c in range(channels)], 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_channels_that_were_adapted_are_said(entries):
    assert tljax.load(entries, channels=4).notes[:1] == (
        'stem/conv1/kernel reads 4 channels instead of 3.',
    )


def test_a_network_of_one_channel_turns_colors_gray_as_pillow_does(gray_network):
    image = pictures()[1]
    grays = np.asarray(Image.fromarray(image).convert('L'))[..., None]
    both = (gray_network.preprocess(x) for x in (image, grays))
    np.testing.assert_allclose(*both, atol=0.01)  # half a gray level, which Pillow rounds away


def test_images_of_five_channels_are_predicted(entries):
    other = tljax.load(entries, channels=5)
    assert other.predict([np.zeros((40, 33, 5), np.uint8)]).shape == (1, CLASSES)


# --- sizes and preprocessing ---


def test_position_embeddings_are_resized_for_images_of_another_size(vit_entries):
    other = tljax.load(vit_entries, size_px=64)
    assert jax.eval_shape(other.logits, golden_small.images(1, 64)).shape == (1, CLASSES)
    assumed, resized, _ = other.notes
    assert assumed.startswith('assumed, as the weights do not say: 1 attention heads')
    assert resized == 'embed/position_embedding was resized from 4 patches to 16.'


def test_a_vit_of_its_own_size_is_left_as_it_is(vit_entries):
    same = tljax.load(vit_entries, size_px=32)
    assert not any('resized' in note for note in same.notes)
    positions = same.params['embed']['position_embedding']
    np.testing.assert_array_equal(positions, vit_entries['pos_embed'])


def test_images_that_no_patches_fit_are_refused_with_the_multiple_wanted(vit_entries):
    network = tljax.load(vit_entries)
    with pytest.raises(InputError, match='33 x 33 px, wanted multiples of 16'):
        network.logits(golden_small.images(1, 33))


def test_preprocessing_can_be_given(entries):
    shown = Preprocessing(
        size_px=24,
        resize_px=28,
        interpolation=Interpolation.BICUBIC,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    assert tljax.load(entries, preprocessing=shown).preprocessing == shown


def test_another_size_keeps_the_share_that_is_cut_out(entries):
    shown = Preprocessing(size_px=28, resize_px=32)
    network = tljax.load(entries, preprocessing=shown)
    bigger = tljax.load(
        tree.flatten({'params': network.params, 'batch_stats': network.stats}), size_px=64
    )
    assert (bigger.preprocessing.size_px, bigger.preprocessing.resize_px) == (64, 64)


def test_a_network_does_not_follow_arrays_that_change_under_it(entries):
    """A state dict in memory, or a mapped file: on CPU a device array can be a view of either."""
    held = np.zeros(64 + 4 * 16, np.uint8)
    first = -held.ctypes.data % 64  # where JAX would not copy
    aligned = held[first : first + 4 * 16].view(np.float32)
    aligned[:] = entries['bn1.weight']
    network = tljax.load({**entries, 'bn1.weight': aligned})
    aligned[:] = 0
    np.testing.assert_array_equal(network.params['stem']['bn1']['scale'], entries['bn1.weight'])


def test_a_network_of_which_half_is_something_else_is_not_taken_for_one_known_here(entries):
    more = {f'decoder.{index}': np.zeros(1) for index in range(len(entries) + 1)}
    with pytest.raises(InputError, match='no known network'):
        tljax.load({**entries, **more})


def test_what_is_no_network_is_answered_with_what_is_known():
    with pytest.raises(InputError, match=r'no known network .*\(a, b\).*ResNet.*VGG.*ViT'):
        tljax.load({'a': np.zeros(2), 'b': np.zeros(3)})


def test_a_backbone_that_is_named_is_held_to(entries):
    with pytest.raises(InputError, match=r'do not fit ResNetSmall\(depth=56'):
        tljax.load(entries, backbone=dataclasses.replace(BACKBONE, depth=56))
