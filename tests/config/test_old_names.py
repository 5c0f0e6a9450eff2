"""Records that name classes by the modules that once defined them are read as today's classes."""

import json
import pathlib

import pytest

from tljax.augment import Affine, HorizontalFlip
from tljax.config import config_json, json_form
from tljax.config.experiment import ConfigError, Experiment
from tljax.data.digits import Digits
from tljax.data.glyphs import Glyphs
from tljax.models.adapters import LoRA
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.heads import LinearHead
from tljax.models.views import TenCrop
from tljax.sample_transfer import LabelledSource, LogisticRatio, WithoutSource
from tljax.strategies.optimizers import SGD
from tljax.strategies.penalties import L2SP
from tljax.strategies.schedules import Cosine
from tljax.strategies.strategies import FreezeBelow, FromScratch, SolvedProbe
from tljax.training import run_folder
from tljax.types import Norm, Preprocessing
from tljax.weights import delta, own_format, pretrained

# A config.json from before there were public names: its modules are in other files today.
OLD = pathlib.Path(__file__).with_name('old_names.json').read_text
EXPERIMENT = Experiment(
    backbone=ResNetSmall(depth=20, weights='embedded:glyphs'),
    data=Digits(),
    strategy=FreezeBelow(stage='stage2'),
    optimizer=SGD(learning_rate=0.05),
    schedule=Cosine(warmup_epochs=5),
    augmentations=(Affine(rotate_degrees=10.0), HorizontalFlip()),
    penalties=(L2SP(),),
    samples=LabelledSource(data=Glyphs(), weights=LogisticRatio()),
    adapters=(LoRA(rank=4),),
    head=LinearHead(),
    norm=Norm.FROZEN,
    preprocessing=Preprocessing(),
    test_views=TenCrop(),
    baselines=(FromScratch(), SolvedProbe(), WithoutSource()),
)


def test_a_config_json_with_old_names_is_the_same_experiment():
    assert '"tljax.backbones.resnet_small:ResNetSmall"' in OLD()
    assert config_json.from_json(OLD()) == EXPERIMENT


def test_old_names_are_no_difference():
    now = config_json.to_json(EXPERIMENT)
    assert config_json.difference(now, OLD()) == []
    changed = OLD().replace('strategies:FreezeBelow', 'strategies:Surgical')
    assert [line.split(':')[0] for line in config_json.difference(now, changed)] == [
        'config.strategy'
    ]


def test_a_run_with_old_names_is_resumed_and_one_of_another_class_refused(tmp_path):
    (tmp_path / 'config.json').write_text(OLD())
    assert run_folder.claim(EXPERIMENT, tmp_path) is None
    (tmp_path / 'result.json').write_text('{"step": 3}')
    assert run_folder.claim(EXPERIMENT, tmp_path) == {'step': 3}
    (tmp_path / 'config.json').write_text(OLD().replace('optim:SGD', 'optim:AdamW'))
    with pytest.raises(ConfigError, match=r'config\.optimizer'):
        run_folder.claim(EXPERIMENT, tmp_path)


def test_the_architecture_of_an_exported_file_with_old_names_is_read():
    fields = {
        'backbone': {'class': 'tljax.backbones.resnet_small:ResNetSmall', 'depth': 20},
        'cut_after': 'stage2',
        'head': {'class': 'tljax.heads:LinearHead'},
    }
    wanted = pretrained.Architecture(
        backbone=ResNetSmall(depth=20), cut_after='stage2', head=LinearHead()
    )
    assert own_format.architecture_from(fields) == wanted
    now = json.loads(own_format.architecture_text(wanted))
    assert now['backbone']['class'] == 'tljax:ResNetSmall'
    assert own_format.architecture_from(now) == wanted


def test_the_adapters_of_a_delta_with_old_names_are_read():
    encoded = [{'class': 'tljax.adapters:LoRA', 'rank': 4}]
    assert delta._decoded(json.dumps(encoded)) == (LoRA(rank=4),)


def test_a_module_that_never_was_is_read_by_the_public_name_alone():
    name = 'tljax.no.such.module:Norm'
    assert json_form.decode({'enum': name, 'value': 'auto'}) is Norm.AUTO
