"""docs/networks.md names every network of images that tljax knows."""

import pathlib

from benchmarks.model_zoo_networks import LICENCES, NETWORKS
from tests.test_contracts import classes_of
from tljax.models.backbones.awd_lstm import AWDLSTM

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'networks.md'


def rows(columns: int) -> list[list[str]]:
    """The cells of the rows of the table with this number of columns, without its header."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith('| `')]
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    return [row for row in cells if len(row) == columns]


def test_the_page_has_every_family_of_the_package():
    of_images = (one for one in classes_of('Backbone') if one is not AWDLSTM)
    families = {one.__name__ for one in of_images}
    assert set(NETWORKS) == set(LICENCES) == families
    assert sorted(row[0] for row in rows(5)) == sorted(f'`{one}`' for one in families)


def test_the_page_has_every_network_of_the_list():
    written = [(family, name, source) for family, name, source, *_ in rows(7)]
    assert written == [
        (f'`{family}`', name, f'`{listed.source}`')
        for family, networks in NETWORKS.items()
        for name, listed in networks.items()
    ]


def test_every_family_has_one_network_whose_speed_is_measured():
    counts = {f: sum(one.measured for one in networks.values()) for f, networks in NETWORKS.items()}
    assert counts == dict.fromkeys(NETWORKS, 1)
