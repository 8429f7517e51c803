"""Published weights: addresses, checksums, licenses and accuracies. Data only.

Files of ImageNet weights of MobileNets, and detectors of other frameworks.

Where the entries come from:

- torchvision: names, addresses and top-1 of ``MobileNet_V2_Weights``; a file's name has the first digits of
  its SHA-256, and the digest of ``b0353104`` was computed from the file.
- timm: ids and normalization in ``timm/models/efficientnet.py`` of timm 1.0.31, top-1 at 224 pixels in its
  ``results/results-imagenet.csv`` and README. Revisions, sizes and SHA-256 of the four safetensors files are
  pinned in D-Robotics/rdk_model_zoo (``utils/tools/mobilenet/checkpoints.json``). For the other three no
  complete digest is published, so timm's own releases are used, whose names have the first digits.
- mxnet, gluoncv: SHA-1 in ``model_zoo/model_store.py`` of mxnet 1.9.1 and gluoncv 0.10.5; top-1 in the model
  zoo page of MXNet 1.5 and in GluonCV's ``docs/model_zoo/csv_tables/Classifications/MobileNet.csv``.
- coco: address and SHA-256 in ``tensorflow/workspace2.bzl`` of TensorFlow (``tflite_mobilenet_ssd_quant``).
  No source has the size; it is that of the compressed network.
- coco-ssdlite: address and SHA-256 in ``models/public/ssdlite_mobilenet_v2/model.yml`` of Open Model Zoo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

Pixels = Tuple[Tuple[float, float, float], Tuple[float, float, float]]
"""Mean and standard deviation of the pixels in 0..1, for red, green and blue."""

IMAGENET: Pixels = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION: Pixels = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

TORCH_HUB = "https://download.pytorch.org/models/"
TIMM_HUB = "https://huggingface.co/timm/"
TIMM_RELEASES = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
GLUON = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/models/"


@dataclass(frozen=True)
class PublishedWeights:
    """A file of ImageNet weights that can be downloaded.

    Attributes
    ----------
    name : str
        ``LIBRARY/NETWORK``, what ``--weights`` takes.
    network, width
        The network here that they fit.
    activation : str
        The activation that they were trained with, if the network has a choice.
    file : str
        Name in the cache.
    size : int
        Bytes. Those that end in six zeros are estimates from the number of parameters.
    checksum : str
        Algorithm and hexadecimal digest of `file`; the first digits if no more are published.
    top1 : float
        Published ImageNet top-1 accuracy in percent, at 224 pixels.
    pixels : Pixels
        Input normalization. Converted to ImageNet's when the file is loaded (`Conversion.pixel_mean`).
    license, address : str
        A zip archive that contains `file` if the address ends in ``.zip``.
    """

    name: str
    network: str
    width: float
    file: str
    size: int
    checksum: str
    top1: float
    license: str
    address: str
    activation: str = ""
    pixels: Pixels = IMAGENET

    @property
    def member(self) -> str:
        """Name of `file` in the archive at the address; empty if it is the file itself."""
        return self.file if self.address.endswith(".zip") else ""

    @property
    def description(self) -> str:
        """What it is, for messages."""
        return f"weights {self.name}"


@dataclass(frozen=True)
class PublishedDetector:
    """An archive with a detector that can be downloaded and imported.

    Attributes
    ----------
    name : str
        What ``--detector`` and ``--weights`` take.
    network, classes : str
        For the list.
    file : str
        Name of the archive in the cache.
    size, checksum, license, address
        Of the archive, as in `PublishedWeights`.
    model : str
        The file in the archive to import.
    labels : str
        The file in it with the names of the classes; empty: the classes of COCO by their numbers.
    """

    name: str
    network: str
    classes: str
    file: str
    size: int
    checksum: str
    license: str
    address: str
    model: str
    labels: str = ""

    member = ""  # the cache has the archive itself

    @property
    def description(self) -> str:
        """What it is, for messages."""
        return f"detector {self.name}"


DETECTORS = (
    PublishedDetector(
        "coco", "ssd 300 mobilenet_v1 x0.75", "80 of COCO",
        "coco_ssd_mobilenet_v1_0.75_quant_2018_06_29.zip", 2930000,
        "sha256:a809cd290b4d6a2e8a9d5dad076e0bd695b8091974e0eed1052b480b2f21b6dc", "Apache-2.0",
        "https://storage.googleapis.com/download.tensorflow.org/models/tflite/"
        "coco_ssd_mobilenet_v1_0.75_quant_2018_06_29.zip",
        "detect.tflite", "labelmap.txt",
    ),
    PublishedDetector(
        "coco-ssdlite", "ssdlite 300 mobilenet_v2", "80 of COCO",
        "ssdlite_mobilenet_v2_coco_2018_05_09.tar.gz", 51025348,
        "sha256:542445cce834dbfbb7df1991425d475e85a2d7ec68c60a4f262bb18aac10c8b2", "Apache-2.0",
        "https://download.tensorflow.org/models/object_detection/"
        "ssdlite_mobilenet_v2_coco_2018_05_09.tar.gz",
        "ssdlite_mobilenet_v2_coco_2018_05_09/frozen_inference_graph.pb",
    ),
)  # fmt: skip

# The first entry that fits is what ``--weights imagenet`` means. Those of one network and width are in the
# order of accuracy, with one exception: torchvision's first file, from which a detector reached mAP .667 on
# VOC2012 (six classes), comes before three that are up to 1.1 points better but have not been tried.
CATALOG = (
    PublishedWeights(
        "torchvision/mobilenet_v2", "mobilenet_v2", 1.0, "mobilenet_v2-b0353104.pth", 14212972,
        "sha256:b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889", 71.88, "BSD-3-Clause",
        TORCH_HUB + "mobilenet_v2-b0353104.pth",
    ),
    PublishedWeights(
        "timm/mobilenetv2_100", "mobilenet_v2", 1.0, "timm-mobilenetv2_100.ra_in1k.safetensors", 14184144,
        "sha256:55ea4fb3a96010b933710ebf44fc965b070d5cd054d3f35e44f2d1320b4a714e", 72.98, "Apache-2.0",
        TIMM_HUB + "mobilenetv2_100.ra_in1k/resolve/"
        "5afa12513b048c79b9147a5d210e9bdc50035481/model.safetensors",
    ),
    PublishedWeights(
        "torchvision/mobilenet_v2-7ebf99e0", "mobilenet_v2", 1.0, "mobilenet_v2-7ebf99e0.pth", 14000000,
        "sha256:7ebf99e0", 72.15, "BSD-3-Clause", TORCH_HUB + "mobilenet_v2-7ebf99e0.pth",
    ),
    PublishedWeights(
        "gluoncv/mobilenetv2_1.0", "mobilenet_v2", 1.0, "mobilenetv2_1.0-f9952bcd.params", 14000000,
        "sha1:f9952bcde7a7982947ac5240546e1c1c8f057370", 72.04, "Apache-2.0",
        GLUON + "mobilenetv2_1.0-f9952bcd.zip",
    ),
    PublishedWeights(
        "mxnet/mobilenetv2_1.0", "mobilenet_v2", 1.0, "mobilenetv2_1.0-36da4ff1.params", 14000000,
        "sha1:36da4ff1867abccd32b29592d79fc753bca5a215", 71.92, "Apache-2.0",
        GLUON + "mobilenetv2_1.0-36da4ff1.zip",
    ),
    PublishedWeights(
        "timm/mobilenetv2_140", "mobilenet_v2", 1.4, "timm-mobilenetv2_140.ra_in1k.safetensors", 24655288,
        "sha256:7cf3adc9931d132b0629481082a7b3fd2092139e355e89718da151ef50857c2f", 76.52, "Apache-2.0",
        TIMM_HUB + "mobilenetv2_140.ra_in1k/resolve/"
        "008fa2eb59c0080738c65898a7666059e11c0a75/model.safetensors",
    ),
    PublishedWeights(
        "timm/mobilenetv2_120d", "mobilenet_v2", 1.2, "mobilenetv2_120d_ra-5987e2ed.pth", 23000000,
        "sha256:5987e2ed", 77.30, "Apache-2.0", TIMM_RELEASES + "mobilenetv2_120d_ra-5987e2ed.pth",
    ),
    PublishedWeights(
        "timm/mobilenetv2_110d", "mobilenet_v2", 1.1, "mobilenetv2_110d_ra-77090ade.pth", 18000000,
        "sha256:77090ade", 75.06, "Apache-2.0", TIMM_RELEASES + "mobilenetv2_110d_ra-77090ade.pth",
    ),
    PublishedWeights(
        "mxnet/mobilenetv2_0.75", "mobilenet_v2", 0.75, "mobilenetv2_0.75-e2be7b72.params", 11000000,
        "sha1:e2be7b72a79fe4a750d1dd415afedf01c3ea818d", 69.61, "Apache-2.0",
        GLUON + "mobilenetv2_0.75-e2be7b72.zip",
    ),
    PublishedWeights(
        "gluoncv/mobilenetv2_0.75", "mobilenet_v2", 0.75, "mobilenetv2_0.75-b56e3d1c.params", 11000000,
        "sha1:b56e3d1c33eb52d0b90678db4ce6c5ca6c9a6704", 69.36, "Apache-2.0",
        GLUON + "mobilenetv2_0.75-b56e3d1c.zip",
    ),
    PublishedWeights(
        "timm/mobilenetv2_050", "mobilenet_v2", 0.5, "mobilenetv2_050-3d30d450.pth", 8000000,
        "sha256:3d30d450", 65.95, "Apache-2.0", TIMM_RELEASES + "mobilenetv2_050-3d30d450.pth",
    ),
    PublishedWeights(
        "mxnet/mobilenetv2_0.5", "mobilenet_v2", 0.5, "mobilenetv2_0.5-aabd26cd.params", 8000000,
        "sha1:aabd26cd335379fcb72ae6c8fac45a70eab11785", 64.49, "Apache-2.0",
        GLUON + "mobilenetv2_0.5-aabd26cd.zip",
    ),
    PublishedWeights(
        "gluoncv/mobilenetv2_0.5", "mobilenet_v2", 0.5, "mobilenetv2_0.5-08038185.params", 8000000,
        "sha1:0803818513599fa1329524ee3607b708b4a4630f", 64.43, "Apache-2.0",
        GLUON + "mobilenetv2_0.5-08038185.zip",
    ),
    PublishedWeights(
        "gluoncv/mobilenetv2_0.25", "mobilenet_v2", 0.25, "mobilenetv2_0.25-9b1d2cc3.params", 6000000,
        "sha1:9b1d2cc38fed4cd171a7f7a0d17fe1a905573887", 51.76, "Apache-2.0",
        GLUON + "mobilenetv2_0.25-9b1d2cc3.zip",
    ),
    PublishedWeights(
        "mxnet/mobilenetv2_0.25", "mobilenet_v2", 0.25, "mobilenetv2_0.25-ae8f9392.params", 6000000,
        "sha1:ae8f9392789b04822cbb1d98c27283fc5f8aa0a7", 50.74, "Apache-2.0",
        GLUON + "mobilenetv2_0.25-ae8f9392.zip",
    ),
    PublishedWeights(
        "timm/mobilenetv1_125", "mobilenet_v1", 1.25, "timm-mobilenetv1_125.ra4_e3600_r224_in1k.safetensors",
        25207640, "sha256:5616b1d4d774ac5bdf3fb254a72da78a5f27b19aa13bcceac03a743077c6acd8", 76.92,
        "Apache-2.0",
        TIMM_HUB + "mobilenetv1_125.ra4_e3600_r224_in1k/resolve/"
        "9e2b4f9a089f39eaf59cb38fb5d595f4d78c8064/model.safetensors",
        "relu6", INCEPTION,
    ),
    PublishedWeights(
        "timm/mobilenetv1_100", "mobilenet_v1", 1.0, "timm-mobilenetv1_100.ra4_e3600_r224_in1k.safetensors",
        17030248, "sha256:15c2f1411deb8e0533acbb41fe9523062f80d444d0393e7ad2b429f41378efc3", 75.38,
        "Apache-2.0",
        TIMM_HUB + "mobilenetv1_100.ra4_e3600_r224_in1k/resolve/"
        "6e88b523abded44469eafcd52f7832d5e0300b1b/model.safetensors",
        "relu6", INCEPTION,
    ),
    PublishedWeights(
        "gluoncv/mobilenet1.0", "mobilenet_v1", 1.0, "mobilenet1.0-efbb2ca3.params", 17000000,
        "sha1:efbb2ca3881998d5a8c5cb6c457a28c1e085fed5", 73.28, "Apache-2.0",
        GLUON + "mobilenet1.0-efbb2ca3.zip", "relu",
    ),
    PublishedWeights(
        "mxnet/mobilenet1.0", "mobilenet_v1", 1.0, "mobilenet1.0-6b8c5106.params", 17000000,
        "sha1:6b8c5106c730e8750bcd82ceb75220a3351157cd", 71.05, "Apache-2.0",
        GLUON + "mobilenet1.0-6b8c5106.zip", "relu",
    ),
    PublishedWeights(
        "gluoncv/mobilenet0.75", "mobilenet_v1", 0.75, "mobilenet0.75-84c801e2.params", 10000000,
        "sha1:84c801e27b1ac5040b6e945c0d1f8d49e9a59f3d", 70.25, "Apache-2.0",
        GLUON + "mobilenet0.75-84c801e2.zip", "relu",
    ),
    PublishedWeights(
        "mxnet/mobilenet0.75", "mobilenet_v1", 0.75, "mobilenet0.75-529b2c7f.params", 10000000,
        "sha1:529b2c7f4934e6cb851155b22c96c9ab0a7c4dc2", 67.38, "Apache-2.0",
        GLUON + "mobilenet0.75-529b2c7f.zip", "relu",
    ),
    PublishedWeights(
        "gluoncv/mobilenet0.5", "mobilenet_v1", 0.5, "mobilenet0.5-0130d2aa.params", 5000000,
        "sha1:0130d2aa2f7e3a63db35579b243e25f512172371", 65.20, "Apache-2.0",
        GLUON + "mobilenet0.5-0130d2aa.zip", "relu",
    ),
    PublishedWeights(
        "mxnet/mobilenet0.5", "mobilenet_v1", 0.5, "mobilenet0.5-8e9d539c.params", 5000000,
        "sha1:8e9d539cc66aa5efa71c4b6af983b936ab8701c3", 63.07, "Apache-2.0",
        GLUON + "mobilenet0.5-8e9d539c.zip", "relu",
    ),
    PublishedWeights(
        "gluoncv/mobilenet0.25", "mobilenet_v1", 0.25, "mobilenet0.25-f0046a3d.params", 2000000,
        "sha1:f0046a3da4e150b85da58ea31913dbb86e7540d1", 52.91, "Apache-2.0",
        GLUON + "mobilenet0.25-f0046a3d.zip", "relu",
    ),
    PublishedWeights(
        "mxnet/mobilenet0.25", "mobilenet_v1", 0.25, "mobilenet0.25-9f83e440.params", 2000000,
        "sha1:9f83e440996887baf91a6aff1cccc1c903a64274", 51.85, "Apache-2.0",
        GLUON + "mobilenet0.25-9f83e440.zip", "relu",
    ),
)  # fmt: skip
