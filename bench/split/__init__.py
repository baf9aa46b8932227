"""What splitting costs beside decoding: ``make bench-split``.

One module per figure. Splitting and what it is compared with run in turns, on the same files, with
the same ffmpeg, without a CUDA device. The media are made once (:mod:`bench.split.media`).
"""
