"""The rules of `tljax.advise` on constructed evidence."""

import dataclasses
import math
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import quickstart
from tljax.advise import choice, folds, halving, linear_probes, networks, rules
from tljax.advise.candidates import HIGH, LOW, Candidate
from tljax.advise.choice import Answers, Prior, choose, difference, images_to_tell
from tljax.advise.halving import Cost, Entry, Rung, Search, plan
from tljax.advise.pictures import Point, _labels, _overlap, costs
from tljax.advise.trials import OutOfTime, Trial
from tljax.augment import HorizontalFlip, RandomCrop
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.types import InputError, Preprocessing
from tljax.weights import loading, own_format


def answers(right, count=100, sure=3.0, start=0):
    """Of `count` images, the first `right` are answered right, all as surely."""
    labels = np.arange(count) % 4
    said = np.where(np.arange(count) < right, labels, (labels + 1) % 4)
    return Answers(
        ids=np.arange(start, start + count), labels=labels, logits=sure * np.eye(4)[said]
    )


def held_against_probe(mean=0.0, spread=math.inf):
    """Priors of a probe and of training everything."""
    anchor = 'probe'
    return {'probe': Prior(anchor=anchor), 'all': Prior(anchor=anchor, mean=mean, spread=spread)}


def test_without_a_prior_the_better_is_chosen():
    found = choose({'probe': answers(50), 'all': answers(90)}, held_against_probe())
    assert (found.name, found.reference, found.within) == ('all', 'probe', ('all',))
    assert found.gains['all'].mean == pytest.approx(found.gains['all'].seen.mean)
    found = choose({'probe': answers(90), 'all': answers(50)}, held_against_probe())
    assert (found.name, found.gains['probe'].mean) == ('probe', 0.0)


def test_where_few_images_tell_little_the_prior_decides():
    few = {'probe': answers(18, count=20), 'all': answers(17, count=20)}
    assert choose(few, held_against_probe()).name == 'probe'
    assert choose(few, held_against_probe(mean=0.03, spread=0.02)).name == 'all'


def test_where_many_images_tell_the_prior_does_not_matter():
    many = {'probe': answers(1800, count=2000), 'all': answers(1700, count=2000)}
    found = choose(many, held_against_probe(mean=0.03, spread=0.02))
    assert found.name == 'probe'
    assert found.gains['all'].mean < -0.02


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 39), st.floats(-0.2, 0.2), st.floats(0.01, 0.5))
def test_an_expected_gain_lies_between_what_was_seen_and_the_prior(right, mean, spread):
    given_ = {'probe': answers(20, count=40), 'all': answers(right, count=40)}
    gain = choose(given_, held_against_probe(mean, spread)).gains['all']
    assert gain.seen is not None
    assert min(gain.seen.mean, mean) - 1e-9 <= gain.mean <= max(gain.seen.mean, mean) + 1e-9
    assert gain.error < min(gain.seen.error, spread)


def test_of_several_networks_each_is_held_against_its_own_probe():
    found = choose(
        {'probe a': answers(50), 'probe b': answers(80), 'all a': answers(55)},
        {
            'probe a': Prior(anchor='probe a'),
            'probe b': Prior(anchor='probe b'),
            'all a': Prior(anchor='probe a', mean=0.1, spread=0.01),
        },
    )
    assert (found.name, found.reference) == ('probe b', 'probe b')
    assert found.gains['all a'].mean == pytest.approx(found.gains['probe a'].mean + 0.1, abs=0.02)


def test_what_the_images_do_not_tell_apart_is_named():
    given_ = {'probe': answers(90), 'all': answers(91)}
    found = choose(given_, held_against_probe(mean=0.0, spread=0.05))
    assert set(found.within) == {'probe', 'all'}


def test_an_anchor_that_was_not_asked_is_an_error():
    with pytest.raises(InputError, match='candidates are'):
        choose({'all': answers(9)}, held_against_probe())


def test_being_too_sure_of_itself_makes_nothing_worse():
    calm, sure = answers(80, sure=1.0), answers(80, sure=30.0)
    assert choice.log_losses(calm).mean() == pytest.approx(choice.log_losses(sure).mean(), abs=0.01)
    assert sure.losses_at(1.0).mean() > 3


def test_logits_that_are_no_numbers_are_never_right():
    broken = dataclasses.replace(answers(100), logits=np.full((100, 4), np.nan))
    assert broken.accuracy == 0
    assert choice.ranked({'broken': broken, 'fine': answers(30)}) == ['fine', 'broken']


def test_differences_are_of_the_images_that_both_were_asked():
    apart = difference(answers(100), answers(0, count=10, start=95))
    assert apart.count == 5
    with pytest.raises(InputError, match='different images'):
        difference(answers(5, count=5), answers(5, count=5, start=50))


def test_paired_differences_are_surer_than_their_parts():
    one, other = answers(60), answers(50)
    shuffled = np.random.default_rng(0).permutation(100)
    apart = difference(one, other)
    mixed = dataclasses.replace(other, labels=other.labels[shuffled], logits=other.logits[shuffled])
    unpaired = difference(one, mixed)
    assert apart.mean == pytest.approx(unpaired.mean)
    assert apart.error < 0.7 * unpaired.error


def test_more_images_tell_smaller_differences_apart():
    small, large = (difference(answers(9 * n), answers(8 * n)) for n in (1, 4))
    assert images_to_tell(large) < images_to_tell(small) * 4
    assert images_to_tell(difference(answers(5), answers(5))) is None


def candidate(name, family='full', first='stem', solved=None, scale=1.0):
    backbone = types.SimpleNamespace(stages=lambda: {'stem': 0, 'mid': 0, 'top': 0}, weights='w')
    experiment = types.SimpleNamespace(backbone=backbone)
    return Candidate(
        name=name,
        family=family,
        experiment=experiment,  # type: ignore[arg-type]
        first=first,
        scale=scale,
        answers=solved,
    )


def look(accuracies, random=None):
    """A network whose stages answer so many of 100 images right."""
    depths = [
        types.SimpleNamespace(
            stage=stage, answers=answers(right), accuracy=right / 100, loss=-right / 100
        )
        for stage, right in accuracies.items()
    ]
    best = min(depths, key=lambda depth: depth.loss)
    return types.SimpleNamespace(
        depths=depths, best=best, last=depths[-1], random=random, source=str(accuracies)
    )


def task(per_class):
    return types.SimpleNamespace(per_class=per_class)


def test_random_weights_are_tried_where_the_weights_know_nothing_more():
    scratch = candidate('from scratch', 'scratch')
    knows = look({'stem': 40, 'mid': 60, 'top': 80}, random=answers(40))
    not_more = look({'stem': 40, 'mid': 41, 'top': 40}, random=answers(40))
    assert 'know more than random' in rules.reason_against(scratch, knows, task(20))
    assert rules.reason_against(scratch, not_more, task(20)) is None
    assert rules.reason_against(scratch, knows, task(1000)) is None


def test_a_cut_above_where_the_features_are_lost_is_not_tried():
    found = look({'stem': 60, 'mid': 80, 'top': 40})
    assert 'freezes mid' not in (
        rules.reason_against(candidate('c', 'cut', 'top'), found, task(20)) or ''
    )
    lost = look({'stem': 80, 'mid': 40, 'top': 40})
    assert 'freezes mid' in rules.reason_against(candidate('c', 'cut', 'top'), lost, task(20))
    assert rules.reason_against(candidate('c', 'cut', 'mid'), lost, task(20)) is None


def test_penalties_and_adapters_are_for_few_labels():
    for family in ('l2sp', 'adapters'):
        known = look({'stem': 60, 'mid': 80, 'top': 90})
        assert rules.reason_against(candidate('x', family), known, task(10)) is None
        assert 'few labels' in rules.reason_against(candidate('x', family), known, task(100))


def test_networks_whose_features_are_clearly_worse_are_left_out():
    good, bad, near = look({'a': 50, 'b': 90}), look({'a': 40, 'b': 45}), look({'a': 50, 'b': 89})
    kept, dropped = rules.networks([good, bad, near])
    assert kept == [good, near]
    assert [drop.name for drop in dropped] == [f'weights {bad.source}']


def test_what_is_expected_to_gain_most_is_tried_first_and_random_weights_last():
    several = [
        candidate('scratch', 'scratch'),
        candidate('full, high', 'full', scale=1.0),
        candidate('full, low', 'full', scale=0.2),
        candidate('probe', 'probe', 'head', solved=answers(60)),
    ]
    names = {n: [one.name for one in rules.ordered(several, task(n))] for n in (5, 20, 100)}
    assert names[5] == names[20] == names[100] == ['full, high', 'full, low', 'scratch']


def test_the_less_the_frozen_features_miss_the_less_is_expected_of_training():
    def expected(right):
        probe = candidate('probe', 'probe', 'head', solved=answers(right))
        return rules.priors([probe, candidate('all', 'full')], task(20))['all']

    good, poor = expected(98), expected(60)
    assert (good.anchor, poor.anchor) == ('probe', 'probe')
    assert 0 < good.mean < poor.mean
    assert good.spread < poor.spread
    assert math.isfinite(expected(100).spread)


def test_every_family_has_an_expectation():
    families = {
        'probe',
        'cut',
        'full',
        'lpft',
        'l2sp',
        'adapters',
        'scratch',
        'source',
        'configured',
    }
    for family in families - {'probe'}:
        for scale in (HIGH, LOW):
            assert rules.kind(candidate('x', family, scale=scale)) in rules.GAINS


COST = Cost(compilation=5.0, each=1.0, step=0.03, steps=300.0)  # 10 s at full length


def test_with_time_for_all_there_is_one_rung():
    assert plan([COST] * 6, 1000.0) == [Rung(6, 1)]


def test_with_less_time_candidates_are_halved_and_with_none_there_is_no_rung():
    assert halving.LEAST_STEPS <= 300 / 3
    rungs = plan([COST] * 9, 9 * (5 + 1 + 3) + 3 * 10 + 1.0)
    assert rungs == [Rung(9, 3), Rung(3, 1)]
    assert plan([COST] * 9, 3.0) == []
    assert plan([], 100.0) == []


def test_of_a_short_schedule_fewer_candidates_are_tried_and_none_is_cut_short():
    short = dataclasses.replace(COST, step=0.1, steps=90.0)
    assert plan([short] * 9, 7 * (5 + 1 + 9) + 1.0) == [Rung(7, 1)]
    assert plan([short] * 9, 35.0) == [Rung(2, 1)]
    assert plan([short] * 9, 20.0) == [Rung(1, 1)]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.builds(
            Cost,
            compilation=st.floats(0.1, 20),
            each=st.floats(0.1, 3),
            step=st.floats(0.01, 1),
            steps=st.floats(10, 200),
        ),
        min_size=1,
        max_size=12,
    ),
    st.floats(1, 500),
)
def test_a_plan_keeps_the_budget(found, budget):
    rungs = plan(found, budget)
    assert not rungs or halving._seconds(found, rungs) <= budget


class Told:
    """A runner whose candidates answer as they are told to, by fold; it counts what it ran."""

    def __init__(self, right):
        self.right, self.ran = right, []

    def run(self, candidate, *, fold, stride, deadline):
        """See `Runner.run`."""
        self.ran.append((candidate.name, fold, stride))
        right = self.right[candidate.name]
        if right is OutOfTime:
            raise OutOfTime
        if right is None:
            raise InputError('there is nothing to train')
        return Trial(
            answers=answers(right, count=20, start=20 * fold),
            steps=30,
            compile_seconds=0.1,
            step_seconds=0.1,
            seconds=1.0,
        )


def search(right, deadline=1e9, solved=(), folds_=3):
    entries = [Entry(candidate=candidate(name)) for name in right]
    entries += [Entry(candidate=one) for one in solved]
    runner = Told(right)
    found = Search(
        runner=runner,  # type: ignore[arg-type]
        folds=folds_,
        entries=entries,
        cost=lambda _: COST,
        deadline=deadline,
    )
    return found, runner


def test_what_is_clearly_worse_is_asked_no_further_fold():
    found, runner = search({'good': 19, 'bad': 2, 'fair': 18})
    names = [entry.candidate.name for entry in found.run()]
    assert names == ['good', 'fair']
    assert ('bad', 1, 1) not in runner.ran
    assert {('good', 2, 1), ('fair', 2, 1)} <= set(runner.ran)


def test_where_one_is_clearly_better_no_fold_is_asked_further():
    found, runner = search({'good': 20, 'bad': 2})
    found.run()
    assert runner.ran == [('good', 0, 1), ('bad', 0, 1)]


def test_what_cannot_be_run_ends_nothing():
    found, _ = search({'broken': None, 'good': 15})
    assert [entry.candidate.name for entry in found.run()] == ['good']
    assert found.entries[0].failed == 'there is nothing to train'


def test_without_time_what_needs_no_training_is_what_is_left():
    probe = candidate('probe', 'probe', 'head', solved=answers(50))
    found, runner = search({'late': OutOfTime}, solved=[probe])
    assert [entry.candidate.name for entry in found.run()] == ['probe']
    found, runner = search({'never': 20}, deadline=0.0, solved=[probe])
    assert [entry.candidate.name for entry in found.run()] == ['probe']
    assert not runner.ran


def test_folds_are_of_one_size_and_stratified():
    labels = np.repeat(np.arange(4), [11, 20, 31, 9])
    place = folds.assign(labels, 5, seed=0)
    sizes = [(place == fold).sum() for fold in range(5)]
    assert set(sizes) == {14}
    assert (place == -1).sum() == 71 - 70
    for fold in range(5):
        counts = np.bincount(labels[place == fold], minlength=4)
        assert np.abs(counts - np.array([11, 20, 31, 9]) / 5).max() < 1.5
    assert (place == folds.assign(labels, 5, seed=0)).all()
    assert (place != folds.assign(labels, 5, seed=1)).any()


def test_labels_of_a_picture_cover_neither_each_other_nor_a_point():
    names = [f'candidate {i}' for i in range(6)]
    places = [(400.0 + i, 100.0 + 2 * i) for i in range(6)]
    found = _labels(names, places, [(0.0, 0.0)] * 6)
    boxes = [
        (
            x if anchor == 'start' else x - 6.1 * 11,
            y - 10,
            x + (6.1 * 11 if anchor == 'start' else 0),
            y + 2,
        )
        for x, y, anchor in found
    ]
    for i, one in enumerate(boxes):
        assert not any(_overlap(one, other) for other in boxes[i + 1 :])


def test_a_picture_escapes_names_and_has_every_point():
    points = [
        Point(name=f'<b>{i}', cost=10.0**i, accuracy=0.5, interval=(0.4, 0.6), color='#000')
        for i in range(-1, 3)
    ]
    picture = costs(points)
    assert picture.count('<circle') == 4
    assert '<b>' not in picture


def test_further_weights_are_recognised_and_read_images_of_their_own_size(tmp_path):
    start = dataclasses.replace(
        quickstart.get_config(),
        preprocessing=Preprocessing(size_px=16, resize_px=20),
        augmentations=(RandomCrop(size_px=16), HorizontalFlip()),
    )
    ours = loading.load('embedded:glyphs')
    path = tmp_path / 'other.safetensors'
    shown = dataclasses.replace(ours.preprocessing, mean=(0.5,), std=(0.5,))
    written = dataclasses.replace(ours, preprocessing=shown)
    own_format.save(path, ours.params, ours.stats, own_format.metadata(written))
    first, second = networks.of(start, [str(path)])
    assert first.experiment is start
    assert second.experiment.backbone == ResNetSmall(depth=20, weights=str(path))
    assert second.experiment.preprocessing == dataclasses.replace(shown, size_px=16, resize_px=20)
    assert second.experiment.augmentations == start.augmentations
    assert networks.short(str(path)) == 'other'
    with pytest.raises(InputError, match='named twice'):
        networks.of(start, [str(path), str(path)])


def test_augmentations_follow_the_size_of_further_weights():
    start = dataclasses.replace(
        quickstart.get_config(),
        backbone=ResNet(depth=18),
        augmentations=(RandomCrop(size_px=224), HorizontalFlip()),
    )
    (_, other) = networks.of(start, ['embedded:glyphs'])
    assert other.experiment.augmentations == (RandomCrop(size_px=16), HorizontalFlip())
    assert other.experiment.preprocessing is None


def test_scores_that_mislead_with_few_images_are_left_out():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    narrow, wide = rng.normal(size=(60, 4)), rng.normal(size=(60, 40))
    assert 'H-score, shrunk' in linear_probes.scores(narrow, labels)
    assert 'H-score, shrunk' not in linear_probes.scores(wide, labels)
    assert not {'TransRate', 'SFDA', 'H-score'} & set(linear_probes.scores(narrow, labels))


def test_probes_are_asked_about_what_they_were_not_fitted_to():
    """Labels that follow from nothing are guessed at chance, however many features there are."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(80, 200)).astype(np.float32), rng.integers(0, 2, 80)
    place = folds.assign(labels, 4, seed=0)
    found = linear_probes.cross_validated(x, labels, place, np.ones(80, bool), 2)
    assert sorted(found.rows) == list(range(80))
    right = (found.logits.argmax(-1) == labels[found.rows]).mean(-1)
    assert (right < 0.7).all()
