"""Parts of the docstrings of an installed package, by the section that they are from."""

import dataclasses
import inspect
import pathlib
import re
from collections.abc import Iterator, Mapping

import numpy as np

from tljax.data import docstrings, stored_text
from tljax.data.stored_text import StoredText
from tljax.types import Examples, Findings, InputError

HEADING = re.compile(r'^(?P<name>[A-Z][A-Za-z ]+)\n-{3,}\s*$', re.MULTILINE)
ENTRY = re.compile(r'\n(?=\S)')  # an entry of a list begins without indent
PARAGRAPH = re.compile(r'\n\s*\n')
# The class of each section, by its heading; the text before the first heading has none.
CLASSES = {
    '': 'description',
    'Notes': 'notes',
    'Parameters': 'parameters',
    'Returns': 'returns',
    'See Also': 'see also',
}
LISTS = ('Parameters', 'Returns', 'See Also')  # sections of entries; the others have paragraphs
NAMES = tuple(CLASSES.values())


@dataclasses.dataclass(slots=True, kw_only=True)
class DocstringSections:
    """Parts of the docstrings of an installed package; the label is the section.

    A text is a paragraph of the description or of the notes, or an entry of the parameters, of the
    returned values or of `See Also`, in the format of numpydoc. What tells the classes apart is how
    a text is phrased, and less what it is about.

    SciPy is installed with tljax (BSD-3-Clause). The files are in either `train` or `test`; equal
    texts are used once. Other releases of the package have other texts, so results differ a little.

    Attributes:
        package: an installed Python package.
        least_words: shorter texts are left out.
        most_texts: of a class, drawn by `split_seed`.
        test_fraction: part of the files that becomes the test split.
        split_seed: seed of the choice of texts and files.
    """

    package: str = 'scipy'
    least_words: int = 8
    most_texts: int = 800
    test_fraction: float = 0.3
    split_seed: int = 0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return docstrings.problems(self, ('least_words', 'most_texts'))

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `test`.

        Raises:
            InputError: the package is not installed, or a section has no text in a split.
        """
        found = list(self._found())
        files = sorted({path for path, _, _ in found})
        rng = np.random.default_rng(self.split_seed)
        tested = set(rng.permutation(files)[: round(self.test_fraction * len(files))].tolist())
        listed: dict[str, list[tuple[StoredText, int]]] = {'train': [], 'test': []}
        for label in range(len(NAMES)):
            of_class = [(path, text) for path, text, other in found if other == label]
            kept = np.sort(rng.permutation(len(of_class))[: self.most_texts])
            for path, text in (of_class[index] for index in kept):
                listed['test' if path in tested else 'train'].append((text, label))
        for split, pairs in listed.items():
            if lacking := set(NAMES) - {NAMES[label] for _, label in pairs}:
                raise InputError(f'{self.package} has no {min(lacking)} in {split}')
        return stored_text.examples(listed, NAMES, Findings())

    def _found(self) -> Iterator[tuple[str, StoredText, int]]:
        """The file, the text and the label of each part, without parts that were found before."""
        seen: set[str] = set()
        for path, docstring in docstrings.of_package(self.package):
            for heading, text in parts(docstring):
                if heading not in CLASSES or text in seen or len(text.split()) < self.least_words:
                    continue
                seen.add(text)
                where = f'{self.package}/{pathlib.PurePath(path).as_posix()} {len(seen)}'
                yield path, StoredText(where, text), NAMES.index(CLASSES[heading])


def parts(docstring: str) -> Iterator[tuple[str, str]]:
    """The heading and the text of each entry and paragraph of a docstring, which has no indent."""
    pieces = HEADING.split(docstring)
    for heading, section in zip(('', *pieces[1::2]), pieces[::2], strict=True):
        name = heading.strip()
        for part in (ENTRY if name in LISTS else PARAGRAPH).split(section.strip('\n')):
            if text := inspect.cleandoc(part).strip():
                yield name, text
