"""Trained fusion on AV-MNIST pairs: degraded pictures of digits, and digits spoken in noise."""
