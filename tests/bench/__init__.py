"""The bench: `make bench` measures the gateway against nginx, in one run, on one core."""
