"""The book's colours and what they mean: figures and pages take them from here.

This file imports nothing: the environment that builds the pages reads it, and has no Matplotlib.
"""

TRIAL = "#1f4e79"  # trials, and what they found
WAITING = "#c2410c"  # idle time
OTHERS = "#6b7280"  # what the book's own systems are compared with
#: Lines and bars that stand side by side, such as one colour a worker.
CYCLE = (TRIAL, "#0f766e", "#7e3794", OTHERS, "#8a5a00", "#a61e4d")
