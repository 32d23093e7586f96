"""What `make image` runs: builds the image and runs it, on a machine without a container engine."""
