"""The commands, and their modules."""

import importlib

COMMANDS = {
    'train': 'trains and evaluates an experiment, and its baselines',
    'evaluate': 'evaluates a network on labelled images',
    'predict': 'predicts the classes of images',
    'report': 'makes the page of a run again, or compares runs on one page',
    'export': 'writes a trained network for other libraries',
    'weights': 'shows what a file of weights contains',
    'data': 'checks every image of a data set',
    'augment': "draws what an experiment's augmentations do to its images",
    'advise': 'chooses a strategy for a data set',
    'lr-find': 'finds a learning rate',
    'frontier': 'measures the cost and accuracy of each cut through a network',
    'merge': 'merges the networks of runs into one file of weights',
    'config': 'prints the resolved experiment',
    'completion': 'prints a script that completes command lines in a shell',
}


def module(name: str):
    """The module of a command: it has `main` and `parser`, and imports JAX when it runs."""
    return importlib.import_module(f'tljax.commands.{name.replace("-", "_")}')
