"""This program beside others: the same load, one after the other, in one run."""
