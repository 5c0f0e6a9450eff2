"""Steps that are not finite: skipped and counted, and computed again by `tljax replay`."""

import dataclasses
import hashlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import small_runs
from tests.small_runs import (
    assert_identical,
    assert_same_run,
    crash_after,
    experiment,
    two_phases,
    with_a_bad_image,
)
from tljax.commands import replay as command
from tljax.metrics import totals
from tljax.records import writers
from tljax.strategies.optimizers import SGD
from tljax.training import (
    batches,
    jobs,
    nonfinite,
    nonfinite_step,
    replay,
    replay_table,
    states,
    step_trace,
)
from tljax.training.compiled_step import CompiledStep, compile_train_step
from tljax.training.run import train
from tljax.training.step_trace import ValueRange
from tljax.types import OnNonfinite

pytestmark = pytest.mark.usefixtures('shared_programs')
BAD = 5  # the id of the bad image


@pytest.fixture(scope='module')
def skipping(shared_programs, tmp_path_factory):
    """The folder and the result of a run with skipped steps."""
    workdir = tmp_path_factory.mktemp('skipping')
    return workdir, train(with_a_bad_image(), workdir)


def bad_steps():
    """The steps of `with_a_bad_image()` whose batch has the bad image."""
    job = jobs.setup(with_a_bad_image())
    return [step for step in range(1, job.steps + 1) if BAD in batches.ids_of(job, step)]


def test_a_run_counts_its_skipped_steps_and_records_the_ids_of_their_images(skipping):
    workdir, result = skipping
    steps = bad_steps()
    assert 2 <= len(steps) < 11
    assert result['skipped_steps'] == {'count': len(steps), 'steps': steps}
    assert json.loads((workdir / 'result.json').read_text())['skipped_steps']['steps'] == steps
    records = writers.read_metrics(workdir / 'metrics.jsonl')
    skipped = [record for record in records if record['split'] == 'skipped']
    assert [record['step'] for record in skipped] == steps
    assert all(BAD in record['ids'] and len(record['ids']) == 8 for record in skipped)
    trained = [record for record in records if record['split'] == 'train']
    assert [r['skipped_steps'] for r in trained] == [
        sum(step <= r['step'] for step in steps) for r in trained
    ]
    assert sum(record['count'] for record in trained) == 8 * (11 - len(steps))
    assert all(np.isfinite(record['loss']) for record in trained if record['count'])


def test_the_ids_are_those_of_the_batch():
    job = jobs.setup(with_a_bad_image())
    feed = batches.Feed(job, job.phases[0])
    for step in range(1, 5):
        assert batches.ids_of(job, step) == np.asarray(feed.take(step - 1)['id']).tolist()


def test_a_skipped_step_changes_nothing_but_the_count_of_steps():
    job = jobs.setup(with_a_bad_image(ema_decay=0.9))
    feed = batches.Feed(job, job.phases[0])
    step = CompiledStep(job, job.phases[0], 1, skip_nonfinite=True)
    state = jobs.first_state(job)
    for number in range(1, 6):
        before = jax.device_get(jax.tree.map(jnp.copy, state))
        state, sums = step(state, feed.take(number - 1))
        is_bad = number in bad_steps()
        assert sums['skipped'] == is_bad
        assert state.step == number
        if is_bad:
            assert_identical(dataclasses.replace(state, step=before.step), before)
            assert not any(
                np.any(v) for n, v in sums.items() if n not in ('first_bad_step', 'skipped')
            )
        else:
            assert sums['count'] == 8
            assert (
                state.params['head']['linear']['kernel']
                != before.params['head']['linear']['kernel']
            ).any()


@pytest.mark.slow
def test_a_run_without_bad_steps_is_the_same_bit_by_bit(reference, tmp_path):
    assert experiment() == experiment(on_nonfinite=OnNonfinite.STOP)
    result = train(experiment(on_nonfinite=OnNonfinite.SKIP), tmp_path)
    assert result['skipped_steps'] == {'count': 0, 'steps': []}
    assert 'skipped_steps' not in reference[1]
    for record in (records := writers.read_metrics(tmp_path / 'metrics.jsonl')):
        record.pop('skipped_steps', None)
    (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in records))
    assert_same_run(experiment(), tmp_path, reference)


@pytest.mark.slow
def test_a_killed_run_with_skipped_steps_ends_as_one_without_a_kill(skipping, tmp_path):
    for number in (3, 8):
        crash_after(number, with_a_bad_image(), tmp_path)
    result = train(with_a_bad_image(), tmp_path)
    assert result['skipped_steps'] == skipping[1]['skipped_steps']
    assert_same_run(with_a_bad_image(), tmp_path, skipping)


def test_steps_that_are_skipped_in_a_row_end_the_run_with_their_ids(tmp_path):
    diverging = experiment(
        optimizer=SGD(learning_rate=1e30),
        clip_norm=None,
        on_nonfinite=OnNonfinite.SKIP,
        epochs=20.0,
        checkpoint_every_steps=1,
    )
    with pytest.raises(nonfinite.NotFiniteError) as caught:
        train(diverging, tmp_path)
    job = jobs.setup(diverging)
    skipped = [r for r in small_runs.records(tmp_path) if r['split'] == 'skipped']
    steps = [record['step'] for record in skipped]
    assert steps == list(range(steps[0], steps[0] + nonfinite.IN_A_ROW))
    assert all(record['ids'] == batches.ids_of(job, record['step']) for record in skipped)
    assert f'steps {steps[0]} to {steps[-1]} were skipped' in str(caught.value)
    assert ', '.join(map(str, skipped[-1]['ids'])) in str(caught.value)
    arrays, saved = small_runs.last_checkpoint(diverging, tmp_path)
    assert saved < steps[-1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(arrays['state'].params))


def test_an_update_that_overflows_the_optimizer_state_is_skipped():
    """The square of 1e20 is not a float32; Adam would never change this parameter again."""
    params, optimizer = {'head': jnp.ones(2)}, optax.adam(0.1)
    before = states.create(params, {}, optimizer, {'head': 'trained'})
    sums = {'loss': jnp.ones(()), 'first_bad_step': jnp.int32(totals.NO_STEP)}
    for gradient, is_skipped in ((1.0, False), (1e20, True)):
        grads = {'head': jnp.full(2, gradient)}
        updates, opt = optimizer.update(grads, before.opt)
        after = before.replace(
            step=before.step + 1, params=optax.apply_updates(params, updates), opt=opt
        )
        assert np.isfinite(after.params['head']).all()
        state, result = nonfinite_step.skipped(before, after, sums, (jnp.ones(()), grads))
        assert result['skipped'] == is_skipped
        assert result['loss'] == 1 - is_skipped
        assert_identical(state.params, (before if is_skipped else after).params)
        assert_identical(state.opt, (before if is_skipped else after).opt)
        assert state.step == 1


def test_a_run_that_stops_has_no_selection_in_its_program():
    job = jobs.setup(experiment())
    arguments = (job, job.phases[0], 1, None, False)
    checks = [
        compile_train_step(*arguments, skip).compiled.as_text().count('is-finite(')
        for skip in (False, True)
    ]
    assert checks[0] == 1  # the loss
    assert checks[1] > 10


def contents(folder):
    """The SHA-256 of every file of a folder."""
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def printed(capsys):
    """The output so far, in one line."""
    return ' '.join(capsys.readouterr().out.split())


def test_the_first_bad_value_is_named_with_its_image_and_the_run_is_unchanged(
    skipping, tmp_path, capsys
):
    workdir, bad = skipping[0], bad_steps()[-1]
    before = contents(workdir)
    out = tmp_path / 'ranges.json'
    assert command.main([str(workdir), str(bad), f'--out={out}']) == 0
    assert contents(workdir) == before
    text = printed(capsys)
    assert 'not finite: images, 192 of 1536 values, of the images with the ids 5.' in text
    ids = batches.ids_of(jobs.setup(with_a_bad_image()), bad)
    assert f'Images: ids {", ".join(map(str, ids))}' in text
    written = json.loads(out.read_text())
    assert written['ids'] == ids
    kinds = list(dict.fromkeys(one['kind'] for one in written['ranges']))
    assert kinds == [
        'images',
        'low',
        'high',
        'head',
        'loss',
        'gradient',
        'update',
        'statistic',
        'optimizer',
    ]
    assert {one['name'] for one in written['ranges'] if one['kind'] == 'low'} == {
        '',
        'conv',
        'norm',
        'Dropout_0',
    }


def test_a_finite_step_has_the_loss_that_the_run_recorded(skipping, capsys):
    records = writers.read_metrics(skipping[0] / 'metrics.jsonl')
    losses = {r['step']: r['loss'] for r in records if r['split'] == 'train' and r['count']}
    for step in (min(losses), max(losses)):  # from the start, and from a checkpoint
        ranges = replay.replay(skipping[0], step)
        (objective,) = [one for one in ranges if (one.kind, one.name) == ('loss', 'objective')]
        assert objective.low == pytest.approx(losses[step], rel=1e-5)
        assert not any(one.bad for one in ranges)
        assert f'Every value of step {step} is finite.' in printed(capsys)


def test_the_first_bad_layer_is_named():
    job = jobs.setup(with_a_bad_image())
    state, good = jobs.first_state(job), min(set(range(1, 5)) - set(bad_steps()))
    kernel = state.params['high']['conv']['kernel'].at[0, 0, 0, 0].set(jnp.inf)
    high = {**state.params['high'], 'conv': {**state.params['high']['conv'], 'kernel': kernel}}
    state = state.replace(params={**state.params, 'high': high})
    feed = batches.Feed(job, job.phases[0])
    *_, batch = (feed.take(step) for step in range(good))
    ranges = step_trace.trace(job, job.phases[0], state, batch, 1, cached=False)
    first = next(one for one in ranges if one.bad)
    assert (first.kind, first.name) == ('high', 'conv')
    assert first.rows
    assert not any(one.bad for one in ranges if one.kind in ('images', 'low'))


def test_a_damaged_checkpoint_is_passed_over(skipping, tmp_path, capsys):
    workdir = tmp_path / 'run'
    shutil.copytree(skipping[0], workdir)
    steps = sorted(int(p.name) for p in (workdir / 'checkpoints/steps').iterdir())
    last, target = steps[-1], tmp_path / 'copy'
    assert replay.copy_checkpoint(workdir / 'checkpoints', target, last) == last
    assert (target / 'steps' / str(last)).is_dir()
    (workdir / f'checkpoints/steps/{last}/record/metadata').write_text('{}')
    assert replay.copy_checkpoint(workdir / 'checkpoints', tmp_path / 'two', last) == steps[-2]
    assert f'the checkpoint of step {last} is damaged' in printed(capsys)
    assert replay.copy_checkpoint(workdir / 'checkpoints', tmp_path / 'none', 0) == 0


@pytest.mark.slow  # four programs are compiled
def test_a_step_of_a_later_phase_and_with_parts_is_that_of_the_run(shared_programs, tmp_path):
    configured = dataclasses.replace(two_phases(), log_every_steps=1, accumulate=2)
    train(configured, tmp_path)
    shutil.rmtree(tmp_path / 'checkpoints')  # so that both phases are trained again
    records = writers.read_metrics(tmp_path / 'metrics.jsonl')
    losses = {r['step']: r['loss'] for r in records if r['split'] == 'train'}
    ranges = replay.replay(tmp_path, 6)
    (objective,) = [one for one in ranges if (one.kind, one.name) == ('loss', 'objective')]
    assert objective.low == pytest.approx(losses[6], rel=1e-5)
    (images,) = [one for one in ranges if one.kind == 'images']
    (logits,) = [one for one in ranges if one.kind == 'head' and not one.name]
    assert (images.count, logits.count) == (8 * 8 * 8 * 3, 8 * 3)


@pytest.mark.parametrize(
    ('step', 'message'), [('12', 'the run has the steps 1 to 11'), ('0', 'wanted 1')]
)
def test_a_step_that_the_run_does_not_have_is_answered_in_a_line(step, message, skipping, capsys):
    assert command.main([str(skipping[0]), step]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_the_table_shows_whole_stages_the_first_bad_layers_and_bad_leaves():
    def one(kind, name, bad=0):
        return ValueRange(kind=kind, name=name, low=-1.0, high=2.0, count=4, bad=bad)

    outputs = [one('low', 'conv'), one('low', ''), one('high', 'conv', 1), one('high', 'norm', 2)]
    later = [one('high', '', 2), one('head', 'linear', 4), one('head', '', 4)]
    leaves = [one('gradient', str(n), bad=n in (3, 30)) for n in range(40)]
    rows = replay_table.shown([*outputs, *later, *leaves])
    assert [(row.kind, row.name) for row in rows] == [
        ('low', ''),
        ('high', 'conv'),
        ('high', 'norm'),
        ('high', ''),
        ('head', ''),
        ('gradient', '3'),
        ('gradient', '30'),
        ('gradient', '38 others'),
    ]
    assert (rows[-1].low, rows[-1].high, rows[-1].count) == (-1.0, 2.0, 4 * 38)
    assert np.isfinite(rows[-1].low)
