"""Training fusers on one machine: sets and their split, the loop, calibration, measures, cards.

:mod:`~pipeline.training.data`, :mod:`~pipeline.training.options`,
:mod:`~pipeline.training.metrics` and :mod:`~pipeline.training.card` are free of torch.
"""
