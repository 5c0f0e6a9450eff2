"""The state of the machine and of the installation, for a report of a problem: `tljax doctor`."""
