"""Data on its way into units and out of them.

``inputs`` before the start, ``outputs`` after a good end; ``linking`` for what needs no copy, ``carriers`` for what
does, ``receivers`` for what follows from a carrier's words and end.
"""
