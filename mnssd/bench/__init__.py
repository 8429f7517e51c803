"""Speed and memory measurements: `mnssd bench` and `mnssd compare`."""
