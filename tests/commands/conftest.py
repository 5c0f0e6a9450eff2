"""One trained run for all tests of commands that read a run."""

import pathlib

import pytest
import safetensors.numpy

from tests import served, small_runs
from tests.state_dicts import foreign
from tljax.config.experiment import Experiment
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.views import FlipViews
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import FreezeBelow
from tljax.training.run import train
from tljax.types import Preprocessing


@pytest.fixture(scope='session')
def served_run(tmp_path_factory) -> pathlib.Path:
    """A run with predictions and features of two views of each test image; its data is in `data`.

    Tests only read it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TLJAX_CACHE', str(tmp_path_factory.mktemp('cache')))
        return served.make(
            tmp_path_factory.mktemp('served'), test_views=FlipViews(), keep_features=True
        )


@pytest.fixture(scope='session')
def probe_run(tmp_path_factory) -> pathlib.Path:
    """A run that fine-tunes weights with a licence; they are next to it in `source.safetensors`.

    Tests only read it.
    """
    folder = tmp_path_factory.mktemp('probe')
    source = folder / 'source.safetensors'
    metadata = {'licence': 'CC0-1.0'}
    safetensors.numpy.save_file(foreign(ResNetSmall(), 'akamaster'), source, metadata)
    experiment = Experiment(
        backbone=ResNetSmall(weights=str(source)),
        data=small_runs.Blobs(),
        strategy=FreezeBelow(stage='stage3'),
        optimizer=SGD(learning_rate=0.1),
        preprocessing=Preprocessing(size_px=16, resize_px=18, mean=(0.3,) * 3, std=(0.4,) * 3),
        per_class=5,
        validation_fraction=0.4,
        epochs=1,
        batch_size=8,
        report=False,
    )
    train(experiment, folder / 'run', show_model=False)
    return folder / 'run'
