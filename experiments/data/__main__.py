"""Prepares a data set where it is missing, checks it, and says what it is."""

import sys

from experiments.data import sets

if __name__ == "__main__":
    sys.exit(sets.main())
