"""Random command lines end in an experiment that validates, or in an error message and exit code 2.

A longer form with more examples is marked `slow`.
"""

import contextlib
import functools
import io
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tljax.commands import command_line, config, config_files, exit
from tljax.commands.command_line import ConfigArguments
from tljax.config import field_paths, value_types
from tljax.training import jobs

FIXED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LONGEST_LINE = exit.LONGEST_LINE + 40  # with the length of a line that was cut
NUMBERS = (
    '0',
    '1',
    '-1',
    '2',
    '40',
    '0.5',
    '1e-3',
    '1e3',
    'nan',
    'inf',
    '1e308',
    '1e400',
    '9' * 30,
)
WORDS = (
    *(
        '',
        ' ',
        'none',
        'true',
        'stage2',
        'head',
        'test',
        'pretrained',
        'float32',
        'embedded:glyphs',
    ),
    *('hf:../..', '~nouser', '/dev/null', 'a\0b', 'a\nb', '\x1b[2J', '\udcff', 'é', '٣', '1_000'),
    *("'", '"', '()', '(', ')', '[', ',', '=', '(,)', 'A(=1)', 'A(b)', 'A(b=', '{}', '%s', '../..'),
    *('9' * 5000, '(' * 5000, 'A(a=' * 3000, '[' * 3000 + ']' * 3000, 'x' * 10**5, 'FreezeBelow'),
    *('Experiment', 'lambda: 0', '__import__("os")', 'LinearProbe(stage=x)', 'tljax', '-0', '0x10'),
)
PATHS = (
    *('', '.', '..', '[0]', '[', ']', 'seed.', '.seed', 'seed[0]', 'seed.x', 'strategy..stage'),
    *(
        'augmentations[9]',
        'augmentations[-1]',
        'augmentations[0].x',
        f'augmentations[{"9" * 5000}]',
    ),
    *('augmentations[0][0]', '__class__', 'data.__dict__', 'lr', 'batch-size', 'a\0', 'a\n', 'é'),
    *('.a' * 3000, 'baselines[0]' * 2000, 'strategy.stage.stage', 'data', '-1', ' seed', 'SEED'),
)
FLAGS = (
    *('--config', '--config=', '--config.', '--config.=', '--noconfig.', '--noconfig.nesterov'),
    *('-config.seed', '--config.seed', '--', '--json=maybe', '--nojson', '--x', '-', '', 'seed=1'),
    *('--config=quickstart:x', '--config=\0', '--config=~nouser/a', f'--config={"x" * 5000}'),
)


@functools.cache
def fields(name: str) -> dict[str, Any]:
    """The paths of the fields of a shipped config, with their types."""
    experiment, _ = config_files.load(ConfigArguments(spec=name))
    result = {}
    for path, _ in field_paths.fields('', experiment):
        outer, _, last = path.rpartition('.')
        owner = functools.reduce(getattr, outer.split('.') if outer else [], experiment)
        result[path] = value_types.field_types(type(owner))[last]
    return result


@functools.cache
def classes(kind: Any) -> list[str]:
    """The classes whose objects fit a type."""
    return value_types.fitting_classes([kind])


@st.composite
def values(draw, kind: Any = Any, depth: int = 0) -> str:
    """The text of a value, which often has the type and is often malformed."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(WORDS) | st.text(max_size=6))
    kind = draw(st.sampled_from(value_types.alternatives(kind)))
    if kind is bool:
        return draw(st.sampled_from(['true', 'false', '1']))
    if kind in (int, float):
        return draw(st.sampled_from(NUMBERS) | st.integers(0, 100).map(str))
    if value_types.is_tuple(kind) and depth < 3:
        element = value_types.element_type(kind, 0)
        return f'({",".join(draw(st.lists(values(element, depth + 1), max_size=3)))})'
    if (value_types.is_class(kind) or kind is Any) and depth < 3:
        return draw(calls(kind, depth))
    return draw(st.sampled_from(NUMBERS + WORDS))


@st.composite
def calls(draw, kind: Any, depth: int) -> str:
    """`Name(field=value, ...)` of a class that fits a type."""
    name = draw(st.sampled_from(classes(kind) or ['LinearProbe']))
    types = value_types.field_types(value_types.public_class(name))
    chosen = draw(st.lists(st.sampled_from([*types, 'x']), max_size=3))
    pairs = [f'{one}={draw(values(types.get(one, Any), depth + 1))}' for one in chosen]
    return f'{name}({", ".join(pairs)})'


@st.composite
def command_lines(
    draw, names: tuple[str, ...], most: int, without: tuple[str, ...] = ()
) -> list[str]:
    """A command line with one of these shipped configs, and up to so many overrides."""
    name = draw(st.sampled_from(names))
    known = fields(name)
    paths = sorted(set(known) - set(without))
    arguments = [f'--config={name}']
    for _ in range(draw(st.integers(1, most))):
        choice = draw(st.integers(0, 11))
        if choice == 0:
            arguments.append(draw(st.sampled_from(FLAGS)))
        elif choice == 1:
            path = draw(st.sampled_from(PATHS) | st.text(max_size=8))
            arguments.append(f'--config.{path}={draw(values())}')
        else:
            path = draw(st.sampled_from(paths))
            arguments.append(f'--config.{path}={draw(values(known[path]))}')
    return arguments


def setup(arguments) -> None:
    """A command that stops where training would compile."""
    jobs.setup(config_files.experiment(arguments.config)[0])


def ends_well(main, arguments: list[str]) -> int:
    """The exit code of a command that must succeed, or print errors of readable lines."""
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        code = main(arguments)
    lines = errors.getvalue().splitlines()
    if code == 0:
        assert not lines
        return code
    assert code == exit.BAD_INPUT
    assert lines[0].startswith('error: ')
    assert len(lines[0]) > len('error: ')
    assert not printed.getvalue()
    for line in lines:
        assert len(line) <= LONGEST_LINE
        assert line.isprintable()
    return code


def show(arguments: list[str]) -> int:
    """`tljax config`, which validates the experiment."""
    return config.main([*arguments, '--json'])


def set_up(arguments: list[str]) -> int:
    """A command that stops where training would compile its step."""
    return exit.run(command_line.Parser('train', '', fields=True), setup, arguments)


@pytest.mark.parametrize('examples', [100, pytest.param(800, marks=pytest.mark.slow)])
def test_any_command_line_is_resolved_or_refused(examples):
    codes = set()

    @settings(FIXED, max_examples=examples)
    @given(command_lines(tuple(config_files.shipped()), most=4))
    def run(arguments):
        codes.add(ends_well(show, arguments))

    run()
    assert codes == {0, exit.BAD_INPUT}


@pytest.mark.parametrize('examples', [30, pytest.param(120, marks=pytest.mark.slow)])
def test_any_override_of_the_quickstart_can_be_set_up_or_is_refused(examples, monkeypatch):
    monkeypatch.setenv('TLJAX_OFFLINE', '1')
    codes = set()
    # Starting another backbone would take most of the time.
    lines = command_lines(('quickstart', 'quickstart_adapters'), most=1, without=('backbone',))

    @settings(FIXED, max_examples=examples)
    @given(lines)
    def run(arguments):
        codes.add(ends_well(set_up, arguments))

    run()
    assert codes == {0, exit.BAD_INPUT}


@pytest.mark.parametrize(
    ('argument', 'reason'),
    [
        (f'augmentations[{"9" * 5000}]=1', 'not a path of fields'),
        (f'strategy={"A(a=" * 3000}', 'nested deeper than 50'),
        ('seed=a\nb', r'--config.seed=a\\nb: wanted int'),
        ('seed=\x1b2J', r'--config.seed=\\x1b2J: wanted int'),
        (f'seed={"x" * 10**5}', r'x… \(100,000 characters\): wanted int'),
        ('=1', 'not a path of fields'),
    ],
)
def test_odd_text_is_named_in_one_line(argument, reason, capsys):
    assert show(['--config=quickstart', f'--config.{argument}']) == exit.BAD_INPUT
    printed = capsys.readouterr().err
    assert re.search(reason, printed)
    assert printed.count('\n') == 1
    assert len(printed) < 1000
