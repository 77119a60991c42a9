"""Text in columns."""


def table(head, rows, total=None, left=1) -> str:
    """Rows of strings under a head; the first `left` columns begin, the others end, in line."""
    cells = [head, *rows, *([total] if total else [])]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [
        "  ".join([*map(str.ljust, row[:left], widths), *map(str.rjust, row[left:], widths[left:])])
        for row in cells
    ]
    rule = "-" * len(lines[0])
    lines[1:1] = [rule]
    if total:
        lines[-1:-1] = [rule]
    return "\n".join(line.rstrip() for line in lines)
