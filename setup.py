"""Installs `configs/` as `tljax/_configs`, so that shipped configs are found by name."""

import setuptools

setuptools.setup(
    packages=[
        *setuptools.find_packages(include=['tljax', 'tljax.*']),
        'tljax._configs',
        'tljax._configs.sweeps',
    ],
    package_dir={'tljax._configs': 'configs', 'tljax._configs.sweeps': 'configs/sweeps'},
)
