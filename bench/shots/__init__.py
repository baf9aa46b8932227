"""How well and how fast shots are found: ``make bench-shots``.

Clips with known cuts, real ones and seeded made ones, given to our detectors and, in the same run,
to those of PySceneDetect.
"""
