"""The content of a run's page: what its folder and its data say, gathered into blocks."""
