"""Which transfer for which data: evidence, short trainings, and a config that can be run.

`tljax advise`; docs/advise.md says how it decides.
"""
