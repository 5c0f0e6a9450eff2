"""The sections of the page of a run, made from its folder and its data."""
