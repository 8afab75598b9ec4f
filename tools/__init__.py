"""What makes, checks and measures the book."""

import io
import sys

for stream in (sys.stdout, sys.stderr):  # titles and arrows are printed, too, where the terminal knows no such letter
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
