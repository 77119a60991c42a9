"""Published tables, made again: one file for each, and `tinyinfer reproduce NAME` prints it.

Every file has a `table`, which takes of `seeds`, `models` and `out` what it needs, trains what it
needs, prints as it goes on, and returns the table for people. Runs and pictures are kept in `out`, and
runs that are finished there are not done again.
"""
