"""Networks of other frameworks: reading, conversion to networks here, and proof that they agree."""
