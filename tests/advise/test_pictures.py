"""The picture of an advice has room for its texts."""

import itertools

from tljax.advise import pictures
from tljax.records.figures.drawing import Text, text_width


def test_the_texts_of_a_network_with_many_stages_do_not_touch_and_are_inside():
    stages = ['stem', *(f'stage{number}' for number in range(1, 8)), 'top']
    curve = pictures.Curve(
        name='pypi:a-package-with-a-long-name-of-weights',
        stages=stages,
        accuracies=[0.1 * index for index in range(len(stages))],
        intervals=[(0.0, 1.0)] * len(stages),
        ratios={},
        random=None,
    )
    drawing = pictures.depths([curve])
    texts = [shape for shape in drawing.shapes if isinstance(shape, Text)]
    named = sorted((text for text in texts if text.text in stages), key=lambda text: text.x)
    assert named[-1].text == 'top'
    for left, right in itertools.pairwise(named):
        assert right.x - left.x > (text_width(left.text) + text_width(right.text)) / 2
    (label,) = [text for text in texts if text.text.startswith('pypi:')]
    assert label.text.endswith('…')
    assert label.x + text_width(label.text) <= drawing.width
