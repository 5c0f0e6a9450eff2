"""The plan of a step: its collective operations, the topologies, the prediction and the choice."""

import dataclasses

import pytest

from tests.training.test_sharded_state import HundredClasses, ManyFeatures, experiment
from tljax.strategies.strategies import FineTune
from tljax.training.plan import collectives, estimate, run, topologies
from tljax.training.plan.collectives import Collective
from tljax.training.plan.estimate import StepPlan
from tljax.types import Dtype, InputError

PROGRAM = """
  %p = f32[512,512]{1,0} parameter(0)
  %all-gather = f32[512,512]{1,0} all-gather(%p), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  %all-reduce.1 = (f32[8]{0}, bf16[2,4]{1,0}, pred[]) all-reduce(%a, %b, %c), replica_groups={{0,1},{2,3}}
  %reduce-scatter = f32[8]{0} reduce-scatter(%a), replica_groups=[4,2]<=[2,4]T(1,0), dimensions={0}
  %all-gather.3 = u8[6]{0} all-gather(%p), replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}
  %all-gather.4 = u8[6]{0} all-gather(%p), replica_groups=mesh['a'=1,'b'=8] {'b'}, dimensions={0}
  %all-reduce.2 = f32[9]{0} all-reduce(%a), replica_groups=mesh['a'=1,'b'=8] {'a'}, to_apply=%add
  ROOT %t = f32[] fusion(%all-reduce.1), kind=kLoop, calls=%all-reduce.fusion
"""  # noqa: E501


def test_collective_operations_are_read_from_a_program():
    expected = [
        ('all-gather', 4 * 512 * 512, (0, 1, 2, 3)),
        ('all-reduce', 4 * 8 + 2 * 8 + 1, (0, 1)),
        ('reduce-scatter', 4 * 8 * 2, (0, 4)),
        ('all-gather', 6, (0, 1, 2, 3)),
        ('all-gather', 6, tuple(range(8))),
    ]
    operations = collectives.of_program(PROGRAM, 8)
    assert [(one.kind, one.size_bytes, one.group) for one in operations] == expected
    totals = collectives.bytes_by_kind(operations)
    assert totals == {'all-gather': 4 * 512 * 512 + 12, 'all-reduce': 49, 'reduce-scatter': 64}


@pytest.mark.parametrize(
    ('name', 'devices'), [('v5e-256', 256), ('v5e-16x16', 256), ('h100-64', 64), ('h100-8x8', 64)]
)
def test_a_topology_has_its_devices(name, devices):
    assert topologies.parse(name).devices == devices


@pytest.mark.parametrize('name', ['v5e', 'k80-8', 'h100-0', 'h100-8x', '', 'v5p-10000'])
def test_an_unknown_topology_is_refused(name):
    with pytest.raises(InputError, match='topology'):
        topologies.parse(name)


def test_a_group_within_a_node_uses_its_links_and_others_the_network():
    topology = topologies.parse('h100-2x4')  # 4 GPUs in a node share 4 x 50 GB/s
    rates = [topology.rate(group) for group in ([4, 5, 6, 7], [0, 4], range(8))]
    assert rates == [450e9, 50e9, 200e9]


def planned(**changes):
    values = {
        'data': 8,
        'model': 1,
        'argument_bytes': 40e9,
        'temporary_bytes': 20e9,
        'output_bytes': 0,
        'flops': 989e12,
        'accessed_bytes': 1.0,
        'collectives': (Collective(kind='all-reduce', size_bytes=8e9, group=tuple(range(8))),),
        'dtype': Dtype.BFLOAT16,
        'compile_seconds': 1.0,
    }
    return StepPlan(**{**values, **changes})


def test_the_predicted_time_is_that_of_the_peaks():
    times = estimate.predict(planned(), topologies.parse('h100-8'))
    network = 2 * 7 / 8 * 8e9 / 450e9
    assert times.compute_seconds == pytest.approx(1.0)
    assert times.network_seconds == pytest.approx(network)
    assert times.step_seconds == pytest.approx(1 + network)
    assert times.weak_scaling_efficiency == pytest.approx(1 / (1 + network))


def test_a_tenth_of_the_memory_stays_free():
    topology = topologies.parse('h100-8')
    assert planned(temporary_bytes=32e9 - 1).fits(topology)
    assert not planned(temporary_bytes=32e9 + 1).fits(topology)


def test_the_state_is_split_until_it_fits_and_the_fastest_fitting_mesh_is_chosen():
    one = experiment(
        backbone=ManyFeatures(), data=HundredClasses(), strategy=FineTune(), augmentations=()
    )
    plans = list(run.plans(one, None))
    assert [(step.data, step.model) for step in plans] == [(4, 1)]
    assert run.cheapest(plans, None) is None
    chip = topologies.CHIPS['v5e']
    small = dataclasses.replace(chip, memory_bytes=plans[0].memory_bytes)  # of which 90 % count
    topology = topologies.Topology(name='small', chip=small, devices=4)
    plans = list(run.plans(one, topology))
    assert [(step.data, step.model) for step in plans] == [(4, 1), (2, 2)]
    assert run.cheapest(plans, topology) is plans[1]
    assert plans[1].argument_bytes < 0.55 * plans[0].argument_bytes
    trained = 4 * (2048 * 100 + 9 * 64 * 2048)
    reduced = [collectives.bytes_by_kind(step.collectives)['all-reduce'] for step in plans]
    assert trained < reduced[0] < 1.1 * trained
    assert 1.5 * trained < reduced[1] < 1.6 * trained  # within each row, then a half between rows
