"""Evaluation of several labels with padding, on several devices and in several processes."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from tests.small_runs import experiment
from tljax import devices
from tljax.data import arrays, pipeline
from tljax.metrics.losses import BinaryCrossEntropy
from tljax.models import stages
from tljax.training import evaluation, jobs

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES, K = 21, 3  # in batches of 8, the last of which has 5
METRICS = ('mean_average_precision', 'micro_f1', 'macro_f1', 'subset_accuracy', 'loss')


def job():
    """An untrained network and images of random labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, 8, 8, 3), np.uint8)
    labels = rng.integers(0, 2, (EXAMPLES, K), np.uint8)
    source = arrays.keep(train=(images, labels), test=(images, labels))
    return jobs.setup(experiment(data=source, loss=BinaryCrossEntropy()))


def evaluated():
    """The metrics of the test split, as a run computes them."""
    untrained = job()
    arrays = devices.put_replicated(untrained.mesh, (untrained.params, untrained.stats))
    return evaluation.make_evaluate(untrained)(*arrays, 'test')


@pytest.fixture(scope='module')
def metrics():
    """The metrics on four devices of this process."""
    return evaluated()


def test_the_metrics_are_those_of_scikit_learn_on_every_image_once(metrics):
    assert jax.device_count() == 4
    untrained = job()
    model = untrained.model
    (batch,) = pipeline.eval_batches(
        untrained.splits['test'], model.preprocessing, batch_size=EXAMPLES
    )
    x = stages.normalise(model.preprocessing, jnp.asarray(batch['input']))
    logits = np.asarray(stages.run(model, untrained.params, untrained.stats, x)[0])
    labels = batch['label']
    assert metrics['count'] == EXAMPLES
    expected = {
        'mean_average_precision': sklearn.metrics.average_precision_score(labels, logits),
        'micro_f1': sklearn.metrics.f1_score(labels, logits > 0, average='micro'),
        'macro_f1': sklearn.metrics.f1_score(labels, logits > 0, average='macro'),
        'subset_accuracy': sklearn.metrics.accuracy_score(labels, logits > 0),
        'loss': sklearn.metrics.log_loss(
            labels.ravel().astype(int), 1 / (1 + np.exp(-logits.ravel().astype(float)))
        ),
    }
    np.testing.assert_allclose([metrics[n] for n in METRICS], [expected[n] for n in METRICS], 1e-5)


PART = """
import json, sys
import tljax
import jax
import jax.numpy as jnp
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from tests.training.test_multi_label_evaluation import evaluated
print(json.dumps(evaluated()))
"""


@pytest.mark.slow
def test_two_processes_compute_the_metrics_of_one(metrics):
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    environment = {**os.environ, 'XLA_FLAGS': '--xla_force_host_platform_device_count=2'}
    both = [
        subprocess.Popen(
            [sys.executable, '-c', PART, address, str(number)],
            cwd=ROOT,
            env={**environment, 'PYTHONPATH': str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    for output in outputs:
        theirs = json.loads(output.splitlines()[-1])
        assert theirs['count'] == EXAMPLES
        np.testing.assert_allclose(
            [theirs[n] for n in METRICS], [metrics[n] for n in METRICS], 1e-6
        )
