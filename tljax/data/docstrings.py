"""Real texts that are installed with tljax: the docstrings of a package, by its subpackages."""

import ast
import dataclasses
import functools
import importlib.util
import inspect
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tljax.data import class_order, stored_text
from tljax.data.stored_text import StoredText
from tljax.types import Examples, Findings, InputError

LEFT_OUT = re.compile(r'_?tests?|testing|conftest\.py|_test.*|setup\.py|benchmarks?|externals?')
# The section with code, whose imports would name the subpackage.
EXAMPLES = re.compile(r'^\s*(Examples?|>>>).*', re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(slots=True, kw_only=True)
class Docstrings:
    """The docstrings of an installed package; the label is the subpackage that a text is from.

    SciPy is installed with tljax (BSD-3-Clause, about 2000 docstrings). Its docstrings say what a
    function computes, so the classes are topics such as statistics, signals and optimisation.

    The files of a subpackage are in either `train` or `test`. Sections with examples are left out,
    and dotted names of the package are shortened to their last part, because their imports name the
    class. Other releases of the package have other texts, so results differ a little.

    Attributes:
        package: an installed Python package.
        least_words: shorter docstrings are left out.
        least_texts: subpackages with fewer docstrings are left out.
        test_fraction: part of the files of each class that becomes the test split, at least one.
        split_seed: seed of the choice of these files.
    """

    package: str = 'scipy'
    least_words: int = 30
    least_texts: int = 70
    test_fraction: float = 0.3
    split_seed: int = 0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return problems(self, ('least_words', 'least_texts'))

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `test`.

        Raises:
            InputError: the package is not installed, or has fewer than two such subpackages.
        """
        by_file = self._by_file()
        counts: dict[str, int] = {}
        for (name, _), texts in by_file.items():
            counts[name] = counts.get(name, 0) + len(texts)
        classes = class_order.ordered(n for n, count in counts.items() if count >= self.least_texts)
        classes = [name for name in classes if sum(key[0] == name for key in by_file) > 1]
        if len(classes) < 2:
            raise InputError(
                f'{self.package} has {len(classes)} subpackages of {self.least_texts} docstrings '
                'in several files, wanted two or more'
            )
        listed: dict[str, list[tuple[StoredText, int]]] = {'train': [], 'test': []}
        for label, name in enumerate(classes):
            keys = [key for key in by_file if key[0] == name]
            tested = self._tested(len(keys), label)
            for index, key in enumerate(keys):
                split = 'test' if index in tested else 'train'
                listed[split] += [(text, label) for text in by_file[key]]
        return stored_text.examples(listed, classes, Findings())

    def _tested(self, count: int, label: int) -> set[int]:
        """Which of a class's files are in the test split."""
        order = np.random.default_rng([self.split_seed, label]).permutation(count)
        return set(order[: min(max(1, round(self.test_fraction * count)), count - 1)].tolist())

    def _by_file(self) -> dict[tuple[str, str], list[StoredText]]:
        """The texts of each (subpackage, file), without texts that an earlier file has too."""
        seen: set[str] = set()
        result: dict[tuple[str, str], list[StoredText]] = {}
        for path, text in of_package(self.package):
            text = self._prose(text)
            parts = pathlib.PurePath(path).parts
            if len(parts) < 2 or parts[0].startswith('_') or text in seen:
                continue
            if len(text.split()) < self.least_words:
                continue
            seen.add(text)
            texts = result.setdefault((parts[0], path), [])
            texts.append(StoredText(f'{self.package}/{path} {len(texts) + 1}', text))
        return result

    def _prose(self, text: str) -> str:
        text = EXAMPLES.sub('', text)
        return re.sub(rf'\b{re.escape(self.package)}(\.\w+)*\.(\w+)', r'\2', text).strip()


def problems(source: Any, counts: Sequence[str]) -> list[str]:
    """Messages for `config.validate` on the split of a source, and on its fields that count."""
    result = []
    if not 0 < source.test_fraction < 1:
        result.append(f'test_fraction is {source.test_fraction}, wanted 0 < x < 1')
    for name in counts:
        if getattr(source, name) < 1:
            result.append(f'{name} is {getattr(source, name)}, wanted more than 0')
    if source.split_seed < 0:
        result.append(f'split_seed is {source.split_seed}, wanted at least 0')
    return result


def of_package(package: str) -> Iterator[tuple[str, str]]:
    """The path of a file in a package and a docstring, for all of them; nothing is imported.

    Files of tests are left out.

    Raises:
        InputError: the package is not installed.
    """
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations if found else None) or ():
        yield from _of_folder(pathlib.Path(folder))
        return
    raise InputError(f'no package {package!r} is installed')


@functools.lru_cache(maxsize=4)  # parsing SciPy takes seconds
def _of_folder(root: pathlib.Path) -> tuple[tuple[str, str], ...]:
    """The docstrings of a folder with the paths of their files."""
    found = []
    for path in sorted(root.rglob('*.py')):
        inside = path.relative_to(root)
        if not any(LEFT_OUT.fullmatch(part) for part in inside.parts):
            found += [(inside.as_posix(), text) for text in of_file(path)]
    return tuple(found)


def of_file(path: pathlib.Path) -> Iterator[str]:
    """The docstrings of a file of Python, of its modules, classes and functions."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    try:
        parsed = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # such as a template of another language
        return
    for node in ast.walk(parsed):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield inspect.cleandoc(text)
