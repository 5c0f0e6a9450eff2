"""Engines that run the cells of a sweep on a cluster; each is an extra of the package."""
