"""A page about a run, to be looked at in a browser."""
