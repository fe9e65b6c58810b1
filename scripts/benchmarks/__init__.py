"""Benchmarks of the losses, in comparison with nnU-Net's own loss."""
