"""Runs with adapters: trained leaves, statistics, resumption, and delta files."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import tljax
from tests.small_runs import (
    Tiny,
    assert_identical,
    assert_same_run,
    crash_after,
    experiment,
    last_checkpoint,
)
from tljax import tree
from tljax.commands import export as export_command
from tljax.config import config_json, validation
from tljax.models import stages
from tljax.models.adapters import LoRA, ResidualAdapter, ScaleShift, split
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.records import console, runs
from tljax.strategies.strategies import AdaptersOnly, LinearProbe
from tljax.training import baselines, frontier, jobs, runs_to_merge
from tljax.training.run import train
from tljax.types import InputError, Norm
from tljax.weights import delta as deltas
from tljax.weights import export, loading, locations, pretrained

pytestmark = pytest.mark.usefixtures('shared_programs')
EVERY = (LoRA(rank=2), ResidualAdapter(), ScaleShift())


def with_adapters(**changes):
    """The tiny experiment with every adapter, 11 steps."""
    return experiment(**{'strategy': AdaptersOnly(), 'adapters': EVERY, **changes})


@pytest.fixture(scope='module')
def reference(shared_programs, tmp_path_factory):
    """The folder and the result of an uninterrupted run."""
    folder = tmp_path_factory.mktemp('adapters')
    return folder, train(with_adapters(), folder)


def test_only_adapters_and_the_head_change(reference):
    start = jobs.setup(with_adapters()).params
    end = last_checkpoint(with_adapters(), reference[0])[0]['state'].params
    before, after = tree.flatten(start), tree.flatten(end)
    assert before.keys() == after.keys()
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert changed == {p for p in before if '/adapter/' in p or p.startswith('head/')}


def test_the_optimizer_has_state_for_adapters_and_the_head_only(reference):
    state = last_checkpoint(with_adapters(), reference[0])[0]['state']
    trained = reference[1]['trained_parameters']
    added = sum(leaf.size for leaf in split(state.params)[1].values())
    assert trained == added + tree.count(state.params['head'])
    moments = [leaf for leaf in jax.tree.leaves(state.opt) if leaf.ndim]
    assert tree.count(moments) == 2 * trained  # Adam's two


@pytest.mark.parametrize('crashes', [(8,), pytest.param((3, 8), marks=pytest.mark.slow)])
def test_a_run_with_crashes_ends_as_one_without(crashes, reference, tmp_path):
    for number in crashes:
        crash_after(number, with_adapters(), tmp_path)
    train(with_adapters(), tmp_path)
    assert_same_run(with_adapters(), tmp_path, reference)


def test_a_trained_run_is_loaded_as_the_plain_network(reference):
    network = tljax.load(reference[0])
    assert network.model.adapters == ()
    plain = stages.shapes(network.model)[0]
    assert tree.flatten(network.params).keys() == tree.flatten(plain).keys()
    run = runs.read(reference[0])
    adapted = dataclasses.replace(network.model, adapters=EVERY)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    unmerged, _ = stages.run(adapted, run.unmerged, run.stats, x)
    np.testing.assert_allclose(network.logits(x), unmerged, rtol=0, atol=1e-5)


def test_the_file_of_an_exported_run_holds_the_plain_network(reference, tmp_path):
    out = tmp_path / 'net.safetensors'
    export.export(str(reference[0]), out)
    assert not [name for name in safetensors.numpy.load_file(out) if 'adapter' in name]


def stay_equal(job, end):
    """Whether each leaf of the statistics is as at the start."""
    pairs = zip(*map(jax.tree.leaves, (job.stats, end)), strict=True)
    return {np.array_equal(before, after) for before, after in pairs}


def test_statistics_follow_the_batch_by_default(reference):
    end = last_checkpoint(with_adapters(), reference[0])[0]['state'].stats
    assert stay_equal(jobs.setup(with_adapters()), end) == {False}


def test_frozen_statistics_do_not_change(adapted_run):
    job = jobs.setup(on_file(adapted_run.parent / 'base.safetensors', norm=Norm.FROZEN))
    assert stay_equal(job, runs.read(adapted_run).stats) == {True}


def test_a_strategy_that_freezes_the_adapters_is_refused_before_anything_is_compiled():
    with pytest.raises(InputError, match=r'config\.adapters.*train in no phase'):
        jobs.setup(with_adapters(strategy=LinearProbe()))
    with pytest.raises(InputError, match=r'no adapter to train: config\.adapters'):
        jobs.setup(with_adapters(adapters=()))


def test_fields_of_adapters_are_validated_and_written_to_the_config_of_a_run():
    with pytest.raises(InputError, match=r'config\.adapters\[0\]\.rank is 0'):
        validation.validate(with_adapters(adapters=(LoRA(rank=0),)))
    assert config_json.from_json(config_json.to_json(with_adapters())) == with_adapters()


def test_baselines_have_no_adapters():
    baseline = baselines.baseline_of(with_adapters(), LinearProbe())
    job = jobs.setup(baseline)
    trained, _ = console.counts(job.params, job.phases[-1].labels)
    assert (baseline.adapters, trained) == ((), 8 * 3 + 3)  # the head


def test_the_table_of_stages_counts_adapters():
    job = jobs.setup(with_adapters())
    totals = {name: total for name, _, total in stages.describe(job.model, job.params)}
    assert totals == {name: tree.count(job.params[name]) for name in job.model.names}
    assert totals['low'] > stages.describe(job.model)[0][2]


def test_a_frontier_has_no_adapters():
    cuts = frontier.cuts(with_adapters(), ('low', 'high', 'head'))
    assert [one.adapters for one in cuts.values()] == [(), (), ()]


# --- deltas ---


def on_file(path, **changes):
    """The stem of the embedded network from a file of weights, with every adapter; 2 steps."""
    fields = {'epochs': 0.4, 'evaluate': (), 'checkpoint_every_steps': None, **changes}
    return with_adapters(backbone=ResNetSmall(weights=str(path)), cut_after='stem', **fields)


@pytest.fixture(scope='module')
def adapted_run(shared_programs, tmp_path_factory):
    """The folder of such a run; the file is next to it."""
    folder = tmp_path_factory.mktemp('delta')
    base = folder / 'base.safetensors'
    base.write_bytes(locations.locate('embedded:glyphs')[0].read_bytes())
    train(on_file(base, norm=Norm.FROZEN), folder / 'run')
    return folder / 'run'


def write_others(path):
    """The same network with other values."""
    original = locations.locate('embedded:glyphs')[0]
    with safetensors.safe_open(original, 'numpy') as handle:
        texts = handle.metadata()
    arrays = {name: 2 * array for name, array in safetensors.numpy.load_file(original).items()}
    safetensors.numpy.save_file(arrays, path, texts)


@pytest.fixture(scope='module')
def delta(adapted_run):
    """The delta file of that run."""
    out = adapted_run.parent / 'delta.safetensors'
    assert export_command.main([str(adapted_run), f'--out={out}', '--delta']) == 0
    return out


def test_a_delta_holds_adapters_and_the_head_only(adapted_run, delta):
    added = split(runs.read(adapted_run).unmerged)[1]
    expected = {f'params/{path}' for path in added}
    expected |= {'params/head/linear/kernel', 'params/head/linear/bias'}
    assert safetensors.numpy.load_file(delta).keys() == expected


def test_changed_statistics_are_in_the_delta(adapted_run, tmp_path):
    train(on_file(adapted_run.parent / 'base.safetensors'), tmp_path / 'run')
    export.export(str(tmp_path / 'run'), tmp_path / 'd.safetensors', delta=True)
    names = safetensors.numpy.load_file(tmp_path / 'd.safetensors').keys()
    assert 'batch_stats/stem/bn1/mean' in names
    assert 'params/stem/conv1/kernel' not in names
    assert_same_network(tmp_path / 'd.safetensors', tmp_path / 'run')


def assert_same_network(one, other):
    """Two sources of weights give the same network, bit by bit."""
    first, second = map(tljax.load, (one, other))
    assert_identical((first.params, first.stats), (second.params, second.stats))
    assert first.class_names == second.class_names
    assert first.preprocessing == second.preprocessing


def test_a_delta_is_loaded_as_the_network_of_its_run(adapted_run, delta):
    assert_same_network(delta, adapted_run)


def test_the_start_of_an_adapted_run_can_be_merged_with_its_end(adapted_run):
    one = runs_to_merge.read(adapted_run)
    start = runs_to_merge.start_values(runs_to_merge.setup(one, with_weights=True), one)
    assert tree.flatten(start.params).keys() == tree.flatten(one.values.params).keys()


def test_a_delta_names_its_base_by_its_sha256(adapted_run, delta):
    with safetensors.safe_open(delta, 'numpy') as handle:
        base = json.loads(handle.metadata()['base'])
    path = adapted_run.parent / 'base.safetensors'
    assert base == {'source': str(path), 'sha256': loading.load(path).origin.sha256}


def test_a_copy_of_the_base_in_another_place_is_accepted(adapted_run, delta, tmp_path):
    copy = tmp_path / 'copy.safetensors'
    copy.write_bytes((adapted_run.parent / 'base.safetensors').read_bytes())
    assert_same_network(loading.apply_delta(delta, copy), adapted_run)


def test_another_base_is_refused_with_both_checksums(adapted_run, delta, tmp_path):
    other = tmp_path / 'other.safetensors'
    write_others(other)
    with pytest.raises(InputError) as caught:
        loading.apply_delta(delta, other)
    for path in (other, adapted_run.parent / 'base.safetensors'):
        assert str(loading.load(path).origin.sha256) in str(caught.value)


def test_the_error_of_a_missing_base_says_how_to_name_another(delta, adapted_run, tmp_path):
    base = adapted_run.parent / 'base.safetensors'
    base.rename(tmp_path / 'gone')
    try:
        with pytest.raises(InputError, match=r'(?s)delta of .*base\.safetensors.*apply_delta'):
            tljax.load(delta)
    finally:
        (tmp_path / 'gone').rename(base)


def test_a_delta_without_a_leaf_is_refused_with_its_path(delta, tmp_path):
    arrays = safetensors.numpy.load_file(delta)
    arrays.pop('params/stem/conv1/adapter/lora/up')
    with safetensors.safe_open(delta, 'numpy') as handle:
        texts = handle.metadata()
    safetensors.numpy.save_file(arrays, tmp_path / 'd.safetensors', texts)
    with pytest.raises(InputError, match=r'- params/stem/conv1/adapter/lora/up \[2, 16\]'):
        tljax.load(tmp_path / 'd.safetensors')


def test_a_delta_cannot_make_the_reader_import_anything(delta, tmp_path, monkeypatch):
    (tmp_path / 'stranger.py').write_text('raise SystemExit')
    monkeypatch.syspath_prepend(tmp_path)
    arrays = safetensors.numpy.load_file(delta)
    with safetensors.safe_open(delta, 'numpy') as handle:
        texts = handle.metadata()
    texts['adapters'] = json.dumps([{'class': 'stranger:LoRA'}])
    safetensors.numpy.save_file(arrays, tmp_path / 'd.safetensors', texts)
    with pytest.raises(InputError, match='only adapters of tljax'):
        tljax.load(tmp_path / 'd.safetensors')


def test_a_network_without_a_base_has_no_delta(reference, delta, tmp_path):
    out = tmp_path / 'd.safetensors'
    with pytest.raises(InputError, match='from random weights'):
        export.export(str(reference[0]), out, delta=True)
    with pytest.raises(InputError, match='is no run'):
        export.export(str(delta), out, delta=True)
    with pytest.raises(InputError, match='with paths of tljax'):
        export.export(str(reference[0]), out, delta=True, names='torchvision')
    with pytest.raises(InputError, match='is no delta'):
        loading.apply_delta(delta.parent / 'base.safetensors', delta.parent / 'base.safetensors')
    assert not out.exists()


def test_a_network_of_another_package_has_no_delta(adapted_run):
    run, base = runs.read(adapted_run), loading.load(adapted_run.parent / 'base.safetensors')
    backbone: Any = Tiny()
    with pytest.raises(InputError, match="tljax's own classes"):
        deltas.of_run(run, base, pretrained.Architecture(backbone=backbone))


def test_a_base_that_changed_after_training_is_refused(adapted_run, tmp_path):
    base = adapted_run.parent / 'base.safetensors'
    kept = base.read_bytes()
    write_others(base)
    try:
        with pytest.raises(InputError, match='the base is .* with SHA-256'):
            export.export(str(adapted_run), tmp_path / 'd.safetensors', delta=True)
    finally:
        base.write_bytes(kept)
