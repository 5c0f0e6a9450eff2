"""Choosing a strategy for a data set: frozen features, short trials, and a config to train.

`tljax advise` calls `outputs.advise`, which calls `advice.find`: `tasks` reads the labelled
images, `evidence` evaluates frozen features, `candidates` lists strategies, `rules` excludes some,
`halving` trains the others with `trials`, and `choice` selects one. docs/advise.md describes it.
"""
