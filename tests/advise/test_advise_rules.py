"""The rules of `tljax.advise` on constructed evidence."""

import dataclasses
import math
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import quickstart
from tljax.advise import folds, halving, held_out, linear_probes, networks, rules
from tljax.advise.candidates import HIGH, LOW, Candidate
from tljax.advise.choice import Prior, choose
from tljax.advise.halving import Entry, HalvingSearch, Rung, plan
from tljax.advise.held_out import HeldOutPredictions, difference, images_needed
from tljax.advise.trial_costs import TrialCost
from tljax.advise.trials import OutOfTimeError, Trial
from tljax.augment import HorizontalFlip, RandomCrop
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.records.figures import svg
from tljax.records.figures.costs import Point, _labels, _overlap, costs
from tljax.types import InputError, Preprocessing
from tljax.weights import loading, own_format


def predictions(right, count=100, confidence=3.0, start=0):
    """The first `right` of `count` images are correct, all with the same confidence."""
    labels = np.arange(count) % 4
    predicted = np.where(np.arange(count) < right, labels, (labels + 1) % 4)
    return HeldOutPredictions(
        ids=np.arange(start, start + count), labels=labels, logits=confidence * np.eye(4)[predicted]
    )


def priors_with(mean=0.0, spread=math.inf):
    """Priors of a probe and of full fine-tuning."""
    return {'probe': Prior(probe='probe'), 'all': Prior(probe='probe', mean=mean, spread=spread)}


def test_without_a_prior_the_better_candidate_is_chosen():
    result = choose({'probe': predictions(50), 'all': predictions(90)}, priors_with())
    assert (result.name, result.reference, result.contenders) == ('all', 'probe', ('all',))
    assert result.gains['all'].mean == pytest.approx(result.gains['all'].measured.mean)
    result = choose({'probe': predictions(90), 'all': predictions(50)}, priors_with())
    assert (result.name, result.gains['probe'].mean) == ('probe', 0.0)


def test_with_few_images_the_prior_decides():
    few = {'probe': predictions(18, count=20), 'all': predictions(17, count=20)}
    assert choose(few, priors_with()).name == 'probe'
    assert choose(few, priors_with(mean=0.03, spread=0.02)).name == 'all'


def test_with_many_images_the_prior_does_not_matter():
    many = {'probe': predictions(1800, count=2000), 'all': predictions(1700, count=2000)}
    result = choose(many, priors_with(mean=0.03, spread=0.02))
    assert result.name == 'probe'
    assert result.gains['all'].mean < -0.02


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 39), st.floats(-0.2, 0.2), st.floats(0.01, 0.5))
def test_an_expected_gain_lies_between_the_measured_gain_and_the_prior(right, mean, spread):
    both = {'probe': predictions(20, count=40), 'all': predictions(right, count=40)}
    gain = choose(both, priors_with(mean, spread)).gains['all']
    assert gain.measured is not None
    assert min(gain.measured.mean, mean) - 1e-9 <= gain.mean <= max(gain.measured.mean, mean) + 1e-9
    assert gain.error < min(gain.measured.error, spread)


def test_candidates_of_several_networks_are_compared_with_their_own_probe():
    result = choose(
        {'probe a': predictions(50), 'probe b': predictions(80), 'all a': predictions(55)},
        {
            'probe a': Prior(probe='probe a'),
            'probe b': Prior(probe='probe b'),
            'all a': Prior(probe='probe a', mean=0.1, spread=0.01),
        },
    )
    assert (result.name, result.reference) == ('probe b', 'probe b')
    assert result.gains['all a'].mean == pytest.approx(result.gains['probe a'].mean + 0.1, abs=0.02)


def test_candidates_that_are_not_significantly_worse_are_contenders():
    both = {'probe': predictions(90), 'all': predictions(91)}
    result = choose(both, priors_with(mean=0.0, spread=0.05))
    assert set(result.contenders) == {'probe', 'all'}


def test_a_prior_whose_probe_is_no_candidate_is_an_error():
    with pytest.raises(InputError, match='candidates are'):
        choose({'all': predictions(9)}, priors_with())


def test_overconfidence_does_not_change_the_calibrated_loss():
    calm, sure = predictions(80, confidence=1.0), predictions(80, confidence=30.0)
    assert held_out.calibrated_losses(calm).mean() == pytest.approx(
        held_out.calibrated_losses(sure).mean(), abs=0.01
    )
    assert sure.losses_at(1.0).mean() > 3


def test_nan_logits_are_never_correct():
    broken = dataclasses.replace(predictions(100), logits=np.full((100, 4), np.nan))
    assert broken.accuracy == 0
    assert held_out.ranked({'broken': broken, 'fine': predictions(30)}) == ['fine', 'broken']


def test_differences_use_the_images_that_both_predicted():
    apart = difference(predictions(100), predictions(0, count=10, start=95))
    assert apart.count == 5
    with pytest.raises(InputError, match='different images'):
        difference(predictions(5, count=5), predictions(5, count=5, start=50))


def test_paired_differences_have_smaller_errors_than_unpaired_ones():
    one, other = predictions(60), predictions(50)
    shuffled = np.random.default_rng(0).permutation(100)
    apart = difference(one, other)
    mixed = dataclasses.replace(other, labels=other.labels[shuffled], logits=other.logits[shuffled])
    unpaired = difference(one, mixed)
    assert apart.mean == pytest.approx(unpaired.mean)
    assert apart.error < 0.7 * unpaired.error


def test_more_images_make_smaller_differences_significant():
    small, large = (difference(predictions(9 * n), predictions(8 * n)) for n in (1, 4))
    assert images_needed(large) < images_needed(small) * 4
    assert images_needed(difference(predictions(5), predictions(5))) is None


def candidate(name, family='full', first='stem', solved=None, scale=1.0):
    backbone = types.SimpleNamespace(stages=lambda: {'stem': 0, 'mid': 0, 'top': 0}, weights='w')
    experiment = types.SimpleNamespace(backbone=backbone)
    return Candidate(
        name=name,
        family=family,
        experiment=experiment,  # type: ignore[arg-type]
        first=first,
        scale=scale,
        predictions=solved,
    )


def evidence(accuracies, random=None):
    """A network whose stages have so many of 100 images correct."""
    probes = [
        types.SimpleNamespace(
            stage=stage, predictions=predictions(right), accuracy=right / 100, loss=-right / 100
        )
        for stage, right in accuracies.items()
    ]
    best = min(probes, key=lambda probe: probe.loss)
    return types.SimpleNamespace(
        probes=probes, best=best, last=probes[-1], random=random, source=str(accuracies)
    )


def task(per_class):
    return types.SimpleNamespace(per_class=per_class)


def test_random_weights_are_tried_if_pretrained_features_are_not_better():
    scratch = candidate('from scratch', 'scratch')
    knows = evidence({'stem': 40, 'mid': 60, 'top': 80}, random=predictions(40))
    not_more = evidence({'stem': 40, 'mid': 41, 'top': 40}, random=predictions(40))
    assert 'better than random' in rules.reason_against(scratch, knows, task(20))
    assert rules.reason_against(scratch, not_more, task(20)) is None
    assert rules.reason_against(scratch, knows, task(1000)) is None


def test_a_cut_that_freezes_a_clearly_worse_stage_is_not_tried():
    result = evidence({'stem': 60, 'mid': 80, 'top': 40})
    assert 'freezes mid' not in (
        rules.reason_against(candidate('c', 'cut', 'top'), result, task(20)) or ''
    )
    lost = evidence({'stem': 80, 'mid': 40, 'top': 40})
    assert 'freezes mid' in rules.reason_against(candidate('c', 'cut', 'top'), lost, task(20))
    assert rules.reason_against(candidate('c', 'cut', 'mid'), lost, task(20)) is None


def test_penalties_and_adapters_are_tried_with_few_labels_only():
    for family in ('l2sp', 'adapters'):
        known = evidence({'stem': 60, 'mid': 80, 'top': 90})
        assert rules.reason_against(candidate('x', family), known, task(10)) is None
        assert 'few labels' in rules.reason_against(candidate('x', family), known, task(100))


def test_networks_with_clearly_worse_features_are_dropped():
    good, bad, near = (
        evidence({'a': 50, 'b': 90}),
        evidence({'a': 40, 'b': 45}),
        evidence({'a': 50, 'b': 89}),
    )
    kept, dropped = rules.networks([good, bad, near])
    assert kept == [good, near]
    assert [drop.name for drop in dropped] == [f'weights {bad.source}']


def test_the_largest_expected_gain_is_tried_first_and_random_weights_last():
    several = [
        candidate('scratch', 'scratch'),
        candidate('full, high', 'full', scale=1.0),
        candidate('full, low', 'full', scale=0.2),
        candidate('probe', 'probe', 'head', solved=predictions(60)),
    ]
    names = {n: [one.name for one in rules.ordered(several, task(n))] for n in (5, 20, 100)}
    assert names[5] == names[20] == names[100] == ['full, high', 'full, low', 'scratch']


def test_the_expected_gain_falls_with_the_errors_of_the_probe():
    def expected(right):
        probe = candidate('probe', 'probe', 'head', solved=predictions(right))
        return rules.priors([probe, candidate('all', 'full')], task(20))['all']

    good, poor = expected(98), expected(60)
    assert (good.probe, poor.probe) == ('probe', 'probe')
    assert 0 < good.mean < poor.mean
    assert good.spread < poor.spread
    assert math.isfinite(expected(100).spread)


def test_every_family_has_an_expected_gain():
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


COST = TrialCost(
    compile_seconds=5.0, fixed_seconds=1.0, step_seconds=0.03, steps=300.0
)  # 10 s at full length


def test_with_time_for_all_candidates_there_is_one_rung():
    assert plan([COST] * 6, 1000.0) == [Rung(6, 1)]


def test_with_less_time_candidates_are_halved_and_with_none_there_is_no_rung():
    assert halving.MIN_STEPS <= 300 / 3
    rungs = plan([COST] * 9, 9 * (5 + 1 + 3) + 3 * 10 + 1.0)
    assert rungs == [Rung(9, 3), Rung(3, 1)]
    assert plan([COST] * 9, 3.0) == []
    assert plan([], 100.0) == []


def test_short_schedules_are_not_shortened_but_tried_for_fewer_candidates():
    short = dataclasses.replace(COST, step_seconds=0.1, steps=90.0)
    assert plan([short] * 9, 7 * (5 + 1 + 9) + 1.0) == [Rung(7, 1)]
    assert plan([short] * 9, 35.0) == [Rung(2, 1)]
    assert plan([short] * 9, 20.0) == [Rung(1, 1)]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.builds(
            TrialCost,
            compile_seconds=st.floats(0.1, 20),
            fixed_seconds=st.floats(0.1, 3),
            step_seconds=st.floats(0.01, 1),
            steps=st.floats(10, 200),
        ),
        min_size=1,
        max_size=12,
    ),
    st.floats(1, 500),
)
def test_a_plan_keeps_the_budget(result, budget):
    rungs = plan(result, budget)
    assert not rungs or halving._total_seconds(result, rungs) <= budget


class FixedRunner:
    """A runner with fixed numbers of correct predictions by candidate; it records its trials."""

    def __init__(self, right):
        self.right, self.ran = right, []

    def run(self, candidate, *, fold, stride, deadline):
        """See `Runner.run`."""
        self.ran.append((candidate.name, fold, stride))
        right = self.right[candidate.name]
        if right is OutOfTimeError:
            raise OutOfTimeError
        if right is None:
            raise InputError('there is nothing to train')
        return Trial(
            predictions=predictions(right, count=20, start=20 * fold),
            steps=30,
            compile_seconds=0.1,
            step_seconds=0.1,
            seconds=1.0,
        )


def search(right, deadline=1e9, solved=(), folds_=3):
    entries = [Entry(candidate=candidate(name)) for name in right]
    entries += [Entry(candidate=one) for one in solved]
    runner = FixedRunner(right)
    result = HalvingSearch(
        runner=runner,  # type: ignore[arg-type]
        folds=folds_,
        entries=entries,
        cost=lambda _: COST,
        deadline=deadline,
    )
    return result, runner


def test_a_clearly_worse_candidate_gets_no_further_fold():
    result, runner = search({'good': 19, 'bad': 2, 'fair': 18})
    names = [entry.candidate.name for entry in result.run()]
    assert names == ['good', 'fair']
    assert ('bad', 1, 1) not in runner.ran
    assert {('good', 2, 1), ('fair', 2, 1)} <= set(runner.ran)


def test_a_clearly_better_candidate_ends_the_search():
    result, runner = search({'good': 20, 'bad': 2})
    result.run()
    assert runner.ran == [('good', 0, 1), ('bad', 0, 1)]


def test_a_candidate_that_fails_does_not_end_the_search():
    result, _ = search({'broken': None, 'good': 15})
    assert [entry.candidate.name for entry in result.run()] == ['good']
    assert result.entries[0].failed == 'there is nothing to train'


def test_without_time_only_the_probe_is_left():
    probe = candidate('probe', 'probe', 'head', solved=predictions(50))
    result, runner = search({'late': OutOfTimeError}, solved=[probe])
    assert [entry.candidate.name for entry in result.run()] == ['probe']
    result, runner = search({'never': 20}, deadline=0.0, solved=[probe])
    assert [entry.candidate.name for entry in result.run()] == ['probe']
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


def test_labels_of_a_picture_do_not_overlap():
    names = [f'candidate {i}' for i in range(6)]
    places = [(400.0 + i, 100.0 + 2 * i) for i in range(6)]
    result = _labels(names, places, [(0.0, 0.0)] * 6, 20.0, 300.0)
    boxes = [
        (
            x if side == 'start' else x - 6.1 * 11,
            y - 10,
            x + (6.1 * 11 if side == 'start' else 0),
            y + 2,
        )
        for x, y, side in result
    ]
    for i, one in enumerate(boxes):
        assert not any(_overlap(one, other) for other in boxes[i + 1 :])


def test_a_picture_escapes_names_and_has_every_point():
    points = [
        Point(name=f'<b>{i}', cost=10.0**i, accuracy=0.5, interval=(0.4, 0.6), color='ink')
        for i in range(-1, 3)
    ]
    picture = svg.render(costs(points, label='time'), 'candidates')
    assert picture.count('<circle') == 4
    assert '<b>' not in picture


def test_further_weights_are_recognised_and_read_images_of_their_own_size(tmp_path):
    start = dataclasses.replace(
        quickstart.get_config(),
        preprocessing=Preprocessing(size_px=16, resize_px=20),
        augmentations=(RandomCrop(size_px=16), HorizontalFlip()),
    )
    glyphs = loading.load('embedded:glyphs')
    path = tmp_path / 'other.safetensors'
    gray = dataclasses.replace(glyphs.preprocessing, mean=(0.5,), std=(0.5,))
    metadata = own_format.metadata(dataclasses.replace(glyphs, preprocessing=gray))
    own_format.save(path, glyphs.params, glyphs.stats, metadata)
    first, second = networks.of(start, [str(path)])
    assert first.experiment is start
    assert second.experiment.backbone == ResNetSmall(depth=20, weights=str(path))
    assert second.experiment.preprocessing == dataclasses.replace(gray, size_px=16, resize_px=20)
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


def test_scores_that_mislead_with_few_images_are_omitted():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    narrow, wide = rng.normal(size=(60, 4)), rng.normal(size=(60, 40))
    assert 'H-score, shrunk' in linear_probes.transferability_scores(narrow, labels)
    assert 'H-score, shrunk' not in linear_probes.transferability_scores(wide, labels)
    assert not {'TransRate', 'SFDA', 'H-score'} & set(
        linear_probes.transferability_scores(narrow, labels)
    )


def test_probes_are_evaluated_on_images_that_they_were_not_fitted_to():
    """Random labels are predicted at chance, with any number of features."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(80, 200)).astype(np.float32), rng.integers(0, 2, 80)
    data = linear_probes.LabelledFolds(
        ids=np.arange(80),
        labels=labels,
        partitions=(folds.assign(labels, 4, seed=0),),
        evaluated=np.ones(80, bool),
        num_classes=2,
    )
    results = data.cross_validate(x).predictions
    assert len(results) == len(linear_probes.DECAYS)
    for one in results:
        assert sorted(one.ids) == list(range(80))
        assert one.accuracy < 0.7
