"""Many networks are screened on subsamples before any of them is probed on all images."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import tljax
from tests.small_runs import Tiny, experiment
from tljax.advise import evidence, screening, tasks
from tljax.advise.networks import CandidateNetwork
from tljax.commands import advise as command
from tljax.commands import command_line
from tljax.data.digits import Digits
from tljax.models.backbones.resnet_small import ResNetSmall

IMAGES = tljax.Preprocessing(size_px=16, resize_px=16)


@pytest.fixture(scope='module')
def screened():
    """The letters' network among four with random weights: the kept, all results, rows by job."""
    base = experiment(data=Digits(), per_class=32, preprocessing=IMAGES, augmentations=())
    backbones: list[Any] = [Tiny() for _ in range(4)]
    backbones.insert(2, ResNetSmall(depth=20, weights='embedded:glyphs'))
    candidates = [
        CandidateNetwork(
            experiment=dataclasses.replace(base, backbone=backbone, seed=seed), pretrained=None
        )
        for seed, backbone in enumerate(backbones)
    ]
    rows, original = {}, evidence.features_of

    def recorded(job, task, wanted, cuts):
        rows.setdefault(job.experiment.seed, []).extend(wanted.tolist())
        return original(job, task, wanted, cuts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, 'features_of', recorded)
        kept, results = screening.screen(tasks.read(base), candidates)
    return [candidates.index(one) for one in kept], results, rows


def test_the_network_with_suitable_features_is_kept_alone(screened):
    kept, results, _ = screened
    assert kept == [2]
    assert [one.why is None for one in results] == [index == 2 for index in range(5)]
    assert results[2].label == 'embedded:glyphs'
    assert all('compared with' in one.why for one in results if one.why)


def test_worse_networks_see_few_images_and_no_image_twice(screened):
    _, results, rows = screened
    counts = [[count for count, _ in one.accuracies] for one in results]
    assert counts[2] == max(counts, key=len)
    assert min(map(len, counts)) == 1
    assert counts[2] == [20, 40, 80][: len(counts[2])]
    assert sum(len(one) > 1 for one in counts) <= 3
    for index, seen in rows.items():
        assert len(seen) == len(set(seen)) == counts[index][-1]


def test_the_first_images_have_every_class_equally_often():
    task = tasks.read(experiment(data=Digits(), per_class=32))
    order = screening._order(task)
    assert sorted(order) == list(range(320))
    for count in (40, 80):
        assert set(np.bincount(task.labels[order[:count]])) <= {
            count // 10 - 1,
            count // 10,
            count // 10 + 1,
        }


@pytest.mark.parametrize(
    ('count', 'classes', 'sizes'),
    [
        (1000, 10, [20, 40, 250]),
        (100, 10, [20, 40]),
        (30, 2, [20, 30]),
        (6, 2, [6]),
        (100_000, 10, [20, 40, 1000]),
    ],
)
def test_each_round_has_more_images(count, classes, sizes):
    assert screening._sizes(count, classes) == sizes


def test_two_networks_are_both_probed_on_all_images():
    pair = [CandidateNetwork(experiment=experiment(), pretrained=None)] * 2
    assert screening.screen(None, pair) == (pair, [])  # type: ignore[arg-type]


def test_weights_are_words_lists_and_lines_of_a_file(tmp_path):
    file = tmp_path / 'zoo.txt'
    file.write_text('# networks\nembedded:glyphs  # small\n\nfile.pth#student\n')
    words = command.parser().read(['--config=quickstart', '--weights', 'a,b', str(file)]).weights
    assert words == [['a', 'b'], ['embedded:glyphs', 'file.pth#student']]


def test_a_list_of_weights_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(command_line.UsageError, match='zoo.txt cannot be read'):
        command.parser().read(['--config=quickstart', '--weights', str(tmp_path / 'zoo.txt')])
