"""The names of the commands and their modules."""

import importlib

COMMANDS = {
    'train': 'trains and evaluates an experiment, and its baselines',
    'evaluate': 'evaluates a network on labelled images',
    'predict': 'predicts the classes of images',
    'serve': 'predicts photographs in a browser, on a page that it serves',
    'report': 'writes the page of a run, or a page that compares runs',
    'compare': 'compares runs, seed by seed and image by image',
    'replay': 'computes one step of a run again, to find where values are not finite',
    'robustness': 'measures a run on corrupted, shifted and unfamiliar images',
    'export': 'writes a trained network for other libraries',
    'weights': 'shows what a file of weights contains',
    'data': 'checks every image of a data set',
    'augment': 'draws the augmented training images of an experiment',
    'advise': 'chooses a strategy for a data set',
    'lr-find': 'suggests a learning rate',
    'frontier': 'measures cost and accuracy for every number of frozen stages',
    'plan': 'predicts memory and time of a training step on many devices',
    'sweep': 'runs many experiments that differ in some fields, and compares them',
    'merge': 'merges the networks of runs into one file of weights',
    'config': 'prints the resolved experiment',
    'doctor': 'describes the installation and the machine, to report a problem',
    'completion': 'prints a script that completes command lines in a shell',
}


def module(name: str):
    """The module of a command. It has `main` and `parser` and imports JAX only when it runs."""
    return importlib.import_module(f'tljax.commands.{name.replace("-", "_")}')
