"""`tljax serve`: a page that shows what a run predicts for images that are dropped on it."""
