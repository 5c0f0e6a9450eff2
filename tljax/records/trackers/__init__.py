"""Services that compare runs, one file each; a config constructs them in `config.trackers`."""
