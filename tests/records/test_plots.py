"""Pictures of measurements: where names stand, and which split an axis names."""

import numpy as np
import pytest

from tljax.records import plots


@pytest.fixture
def figure(monkeypatch):
    """The figure that is drawn next, with one panel."""
    figure, axes = plots._figure()
    monkeypatch.setattr(plots, '_figure', lambda columns: (figure, axes))
    return figure


def draw(path, *, costs, accuracies, split='test'):
    plots.frontier(
        path,
        names=[f'stage{index}' for index in range(len(costs))],
        panels={'cost': costs},
        fronts=[[0, len(costs) - 1]],
        accuracies=accuracies,
        intervals=[(accuracy - 0.05, accuracy + 0.05) for accuracy in accuracies],
        split=split,
    )


@pytest.mark.parametrize('distance', [0.01, 0.5, 3.0])
def test_names_of_points_cover_neither_each_other_nor_the_edge(figure, tmp_path, distance):
    costs = [10.0 + distance * index for index in range(5)]
    draw(tmp_path / 'x.png', costs=costs, accuracies=np.linspace(0.6, 0.7, 5).tolist())
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 5
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert box.x1 <= axes.bbox.x1


@pytest.mark.parametrize(('split', 'name'), [('test', 'test'), ('val', 'validation')])
def test_the_axis_names_the_split_of_the_accuracies(figure, tmp_path, split, name):
    draw(tmp_path / 'x.png', costs=[1.0, 2.0], accuracies=[0.5, 0.6], split=split)
    assert figure.axes[0].get_ylabel() == f'{name} accuracy (%)'
