"""The HTML report of a detector run: data, plots, error examples, page."""
