"""Windows that slide over images: views of all of them, and where each of their elements lies."""

from numpy.lib.stride_tricks import as_strided


def windows(x, size, count, stride, dilation=(1, 1)):
    """(n, c, k, l, i, j) -> x[n, c, stride i + dilation k, stride j + dilation l], a view"""
    *images, row, column = x.strides
    (s, t), (d, e) = stride, dilation
    strides = (*images, row * d, column * e, row * s, column * t)
    return as_strided(x, (*x.shape[:2], *size, *count), strides)


def overlaps(image, size, count, stride, padding, dilation=(1, 1)) -> list:
    """For every element of a window: ((k, l), windows, elements), the windows i, j whose element k, l
    is none of the padding, and where in the image these elements are."""
    rows, columns = (
        [reach(n, m, s, d * k - before) for k in range(length)]
        for n, length, m, s, (before, _), d in zip(image, size, count, stride, padding, dilation)
    )
    return [
        ((k, l), (..., i, j), (..., row, column))
        for k, (i, row) in enumerate(rows)
        for l, (j, column) in enumerate(columns)
        if i.start < i.stop and j.start < j.stop
    ]


def reach(n, count, stride, shift):
    """The windows i with 0 <= stride i + shift < n, and these numbers."""
    first, end = max(0, -(shift // stride)), min(count, (n - 1 - shift) // stride + 1)
    start = stride * first + shift
    return slice(first, end), slice(start, start + stride * (end - first), stride)
