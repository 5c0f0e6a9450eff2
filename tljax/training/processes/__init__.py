"""Several processes that train one run: how they find each other, and what happens if one ends."""
