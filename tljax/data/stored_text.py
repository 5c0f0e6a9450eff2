"""Texts in memory, their check, and the examples of labelled texts."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from tljax.data import files
from tljax.data.files import FolderError, Label
from tljax.metrics.tasks import choice
from tljax.types import BadFiles, Examples, Findings


@dataclasses.dataclass(frozen=True, slots=True)
class StoredText:
    """A text, and the file or the line of a list that has it."""

    where: str
    text: str

    def __str__(self) -> str:
        return self.where

    def read(self) -> bytes:
        """The text in UTF-8; bytes that are not UTF-8 are kept."""
        return self.text.encode('utf-8', 'surrogateescape')

    def stamp(self) -> str:
        """The digest of the text."""
        return hashlib.sha256(self.read()).hexdigest()

    def problem(self) -> str | None:
        """Why it cannot be used, in one line; None for a good text."""
        wrong = next((i for i, c in enumerate(self.text) if '\ud800' <= c <= '\udfff'), None)
        if wrong is not None:
            before = len(self.text[:wrong].encode())
            return f'not UTF-8 at byte {before}: convert it'
        if '\0' in self.text:
            return 'it has NUL characters, so it is no text'
        return None if self.text.strip() else 'it is empty'


LabelledText = tuple[StoredText, Label]


def decoded(data: bytes) -> str:
    """A text from bytes, without a byte order mark; `StoredText.problem` names wrong bytes."""
    return data.removeprefix(b'\xef\xbb\xbf').decode('utf-8', 'surrogateescape')


def examples(
    listed: Mapping[str, Sequence[LabelledText]], class_names: Sequence[str], findings: Findings
) -> dict[str, Examples]:
    """The splits of a data set of texts, without bad ones; ids count bad ones too.

    Args:
        listed: the texts of each split with their labels.
        class_names: names in the order of the labels.
        findings: the policy and notes; bad texts are added.

    Raises:
        FolderError: a text is bad and the policy is `error`, or `train` has no good text of a
            class.
    """
    _check([pair for pairs in listed.values() for pair in pairs], findings)
    several = any(isinstance(label, tuple) for _, label in listed['train'])
    result, first_id = {}, 0
    for split, pairs in listed.items():
        result[split] = _split(pairs, class_names, findings, first_id, several=several)
        first_id += len(pairs)
    train = result['train']
    present = set(files.labels_of(choice.of(train).listed(train.labels)))
    if empty := [name for label, name in enumerate(class_names) if label not in present]:
        bad = files.bad_files_message(findings.bad)
        raise FolderError(f'train has no good text of the classes {empty}\n{bad}')
    return result


def one_split(
    pairs: Sequence[LabelledText], class_names: Sequence[str], findings: Findings
) -> Examples:
    """One split of `examples`, which can lack classes.

    Raises:
        FolderError: a text is bad and the policy is `error`, or all of them are.
    """
    _check(pairs, findings)
    several = any(isinstance(label, tuple) for _, label in pairs)
    result = _split(pairs, class_names, findings, 0, several=several)
    if not len(result):
        raise FolderError(f'no readable text\n{files.bad_files_message(findings.bad)}')
    return result


def _check(pairs: Sequence[LabelledText], findings: Findings) -> None:
    for text, _ in pairs:
        if problem := text.problem():
            findings.bad[str(text)] = problem
    if findings.bad and findings.policy is BadFiles.ERROR:
        raise FolderError(files.bad_files_message(findings.bad))


def _split(
    pairs: Sequence[LabelledText],
    class_names: Sequence[str],
    findings: Findings,
    first_id: int,
    *,
    several: bool,
) -> Examples:
    good = [i for i, (text, _) in enumerate(pairs) if str(text) not in findings.bad]
    texts = [pairs[i][0] for i in good]
    return Examples(
        load=lambda i: texts[i].text,
        labels=files.label_array([pairs[i][1] for i in good], len(class_names), several=several),
        ids=first_id + np.asarray(good, np.int64),
        class_names=tuple(class_names),
        encoded=texts,
        findings=findings,
    )
