"""How images are normalized for every network: by the statistics of ImageNet."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of the ImageNet training images, RGB in 0 to 1, as in the Gluon and torchvision
model zoos (https://pytorch.org/vision/stable/models.html) and GluonCV's SSD presets."""
