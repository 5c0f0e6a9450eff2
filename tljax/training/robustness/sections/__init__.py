"""The sections of the page of a run's robustness, one for each measurement."""
