"""Subtitles of every kind: streams of text, of pictures and of captions, and sidecar files.

Runs in the child only. Streams are read by demuxing (PyAV), apart from ffmpeg, which decodes
picture and sound: what is wrong with a subtitle never fails a video, it becomes a note.
"""
