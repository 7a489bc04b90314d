"""Prints the text that PP-OCR's recogniser found: the likeliest character per column, repeats and blanks dropped (CTC).

    python read_line.py OUTPUT.npy alphabet.txt
"""

import pathlib
import sys

import numpy

scores = numpy.load(sys.argv[1])[0]
alphabet = ["", *pathlib.Path(sys.argv[2]).read_text(encoding="utf-8").split("\n"), " "]
best = scores.argmax(axis=1)
kept = [c for i, c in enumerate(best) if c != 0 and (i == 0 or c != best[i - 1])]
print("".join(alphabet[c] for c in kept))
