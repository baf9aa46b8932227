"""Trained fusers: networks that read the tokens of all modalities of a shot together.

This package imports torch only inside :mod:`pipeline.fusion.neural.network` and what is below it;
:mod:`~pipeline.fusion.neural.config` and :mod:`~pipeline.fusion.neural.items` are free of it, so
that plans and fingerprints need no torch.
"""
