"""mnssd: MobileNet-SSD detectors on Apache MXNet, from images and boxes to files that run anywhere.

Importing the package checks the environment and prepares it for MXNet, and nothing more: neither MXNet
nor NumPy is loaded until a room that needs them is imported.
"""

from .runtime import environment, settings

__version__ = "0.1.0"

environment.check_environment()
settings.configure()
