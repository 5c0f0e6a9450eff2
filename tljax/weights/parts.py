"""Weights in several files: an index names the file of each entry, as transformers writes it.

Source: huggingface_hub, `split_torch_state_dict_into_shards`.
"""

import json
import pathlib
from typing import Any

from tljax.types import InputError

INDEX = '.index.json'
INDICES = (f'model.safetensors{INDEX}', f'pytorch_model.bin{INDEX}')


class PartsError(InputError):
    """An index that cannot be read, or that does not fit its files."""


def files_of(index: pathlib.Path) -> dict[str, str]:
    """The file of each entry, by the entry's name; all are beside the index.

    Raises:
        PartsError: the file is no index, or it names a file elsewhere.
    """
    try:
        names: Any = json.loads(index.read_text())['weight_map']
    except (ValueError, KeyError, TypeError) as error:
        raise PartsError(f'{index}: it has no weight_map: {error!r:.100}') from error
    if not isinstance(names, dict) or not names:
        raise PartsError(f'{index}: its weight_map is no dictionary with entries')
    for name in names.values():
        inside = isinstance(name, str) and pathlib.PurePath(name).name == name and name != '..'
        if not inside or name.endswith(INDEX):
            raise PartsError(f'{index}: it names the file {name!r:.100}, wanted one beside it')
    return names


def check(index: pathlib.Path, wanted: dict[str, str], found: dict[str, str]) -> None:
    """Raises a PartsError if the entries of the files are not those that the index states."""
    other = [name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)]
    if other:
        some = ', '.join(sorted(other)[:4])
        raise PartsError(f'{index}: {len(other)} entries are not in the stated files: {some}')
