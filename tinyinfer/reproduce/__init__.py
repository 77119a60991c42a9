"""Published tables, made again: one file for each, and `tinyinfer reproduce NAME` prints it.

Every file has a `table(seeds, models, out)` that trains what it needs, prints as it goes on, and
returns the table for people. Runs are kept in `out`, and what is finished there is not done again.
"""
