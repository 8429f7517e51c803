"""A web page that runs a network in the browser: its files, and its check in Chromium."""
