"""Annotation formats of labeling tools, one module per format; each module defines a `FORMAT` entry.

`registry` collects the entries. A format turns a folder into an `Export`: classes, and for every image its shapes
in the order in which they are painted. To add a format, add a module here.
"""
