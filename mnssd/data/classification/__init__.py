"""Image classification: datasets and augmentation."""

CLASSIFICATION_ROOTS = {
    "shapes": "data/shapes",
    "folder": "data/images",
    "recordio": "data/recordio",
    "cifar10": "data/cifar10",
}
"""Dataset formats and their default folders."""
