"""Detectors and classifiers that are called with images; their results, drawings and files."""

DISPLAY_SCORE = 0.5
"""Lowest score of detections by default; the network's own floor is `nn.spec.SCORE_FLOOR`."""
