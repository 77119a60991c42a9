"""Layouts: a stretch of convolutions and pools works on images that lie as their loops like them."""

from math import prod

import numpy as np

from ...core.spec import Spec
from ...core.tensor import Node
from ...errors import TinyinferError
from ...ops.layout import In, Reorder, axis, block, image_shape
from ...ops.shape import Reshape
from ..graph import made, rebuilt
from .rewrite import graph_pass


@graph_pass
def layout(graph, to="NHWC"):
    """Lay images out as `to` (NHWC, NCHW8c, NCHW16c, or NCHW to undo it), from the first op that
    works on images to the last: relu(conv2d(x, w)) -> reorder(relu(in_layout(reorder(x), w)))

    Elementwise steps between them do not mind; what they add or multiply is reordered itself, which
    for a weight is done once. Of two inverse reorders nothing remains. Raises ArgumentError for a
    layout that there is not.
    """
    block(to)
    moved = Layouts(graph, to)
    new = {n: moved.as_it_was(n) for n in (*graph.outputs, *graph.updates.values())}
    return graph if all(n is m for n, m in new.items()) else graph.mapped(new)


ZERO = np.zeros((), int)


class Image:
    """One image, in one layout or in several."""

    def __init__(self, form, layout, shape, padding=ZERO):
        self.forms, self.shape = {layout: form}, shape  # (n, c, h, w)
        self.padding = padding  # what stands in the lanes of a block where nothing is, if known

    def laid_out(self, to, n) -> Node:
        """In the layout `to`, for the step n."""
        if to not in self.forms:
            source, form = next(iter(self.forms.items()))
            self.forms[to] = made(Reorder(source, to, self.shape[axis(source)]), (form,), n)
        return self.forms[to]

    def lacks_nothing(self, layout) -> bool:
        """Is it all there, laid out anew, also what stands in its padding?"""
        full = not block(layout) or self.shape[axis(layout)] % block(layout) == 0
        return full or self.padding is not None and not self.padding.any()


class Layouts:
    def __init__(self, graph, to):
        self.to, self.new, self.images = to, {n: n for n in graph.sources}, {}
        for n in graph.steps:
            if not (self.reorder(n) or self.of_images(n) or self.elementwise(n)):
                self.new[n] = rebuilt(n, tuple(map(self.as_it_was, n.inputs)))

    def as_it_was(self, n) -> Node:
        """In the layout that it has in the graph."""
        if n not in self.new:
            image, layout = self.images[n]
            if layout == self.to or not n.op.elementwise or image.lacks_nothing(layout):
                return image.laid_out(layout, n)
            self.new[n] = rebuilt(n, tuple(map(self.as_it_was, n.inputs)))
        return self.new[n]

    def image(self, x, layout, count=None) -> Image:
        """x, which has this layout in the graph."""
        if x not in self.images or self.images[x][1] != layout:
            shape = image_shape(layout, x.spec.shape, count)
            padding = None if block(layout) else ZERO
            self.images[x] = Image(self.as_it_was(x), layout, shape, padding), layout
        return self.images[x][0]

    def reorder(self, n) -> bool:
        """It is the image that it was, in one more layout."""
        if isinstance(n.op, Reorder):
            image = self.image(n.inputs[0], n.op.source, n.op.count)
            if n.op.target not in image.forms and n.op.source in image.forms:
                image.forms[n.op.target] = rebuilt(n, (image.forms[n.op.source],))
            self.images[n] = image, n.op.target
        return isinstance(n.op, Reorder)

    def of_images(self, n) -> bool:
        inside = isinstance(n.op, In)
        op, layout = (n.op.op, n.op.layout) if inside else (n.op, "NCHW")
        if not (op.images and (inside or len(n.inputs[0].spec.shape) == 4)):
            return False
        if op.follows and not inside and not self.ready(n.inputs[0]):
            return False
        # What sums over images to give weights has no use for blocks of channels.
        to = self.to if op.gives_image or axis(self.to) == 0 else "NCHW"
        ways = [n.op.way(i) if inside else PLAIN for i in op.images]
        images = [self.image(n.inputs[i], w.source, w.count) for i, w in zip(op.images, ways)]
        there = op if to == "NCHW" else In(op, to, images[0].shape[axis(to)])
        forms = {i: image.laid_out(to, n) for i, image in zip(op.images, images)}
        inputs = tuple([forms.get(i) or self.as_it_was(x) for i, x in enumerate(n.inputs)])
        y = n if (there, inputs) == (n.op, n.inputs) else made(there, inputs, n)
        if op.gives_image:
            shapes = [x.spec for x in n.inputs]
            for i, image in zip(op.images, images):
                shapes[i] = Spec(image.shape, shapes[i].dtype)
            self.images[n] = Image(y, to, op.infer(*shapes).shape), layout
        else:
            self.new[n] = y
        return True

    def ready(self, x) -> bool:
        """Is it laid out already, in whole blocks?"""
        image, _ = self.images.get(x, (None, None))
        b = block(self.to)
        return image and self.to in image.forms and not (b and image.shape[axis(self.to)] % b)

    def elementwise(self, n) -> bool:
        """If one of its inputs lies in the layout already, the others follow."""
        if not n.op.elementwise:
            return False
        known = [self.images[x] for x in n.inputs if x in self.images and like(x, n)]
        layouts = {layout for _, layout in known}
        if len(layouts) != 1 or not any(self.to in image.forms for image, _ in known):
            return False
        (layout,), shape = layouts, known[0][0].shape
        inputs, paddings = zip(*[self.operand(x, n, layout, shape) for x in n.inputs])
        padding, b = padded(n.op, paddings), block(self.to)
        mixes = axis(self.to) == 1  # what stands in place of a channel is read with the others
        if layout != self.to and mixes and b and shape[1] % b and padding is None:
            return False
        y = n if inputs == n.inputs else made(n.op, inputs, n)
        self.images[n] = Image(y, self.to, shape, padding), layout
        return True

    def operand(self, x, n, layout, shape):
        """An input of an elementwise step in the new layout, and what it has in its padding."""
        if like(x, n):
            image = self.image(x, layout, shape[axis(layout)])
            return image.laid_out(self.to, n), image.padding
        image, was = self.images.get(x, (None, None))
        if image and was == layout and self.to in image.forms:
            return image.forms[self.to], ZERO
        x, rank = self.as_it_was(x), 5 if block(self.to) else 4
        if layout == self.to or prod(x.spec.shape) == 1 and len(x.spec.shape) <= rank:
            return x, x.value if prod(x.spec.shape) == 1 else None
        x = shaped(x, (1,) * (len(n.spec.shape) - len(x.spec.shape)) + x.spec.shape, n)
        if block(layout) and x.spec.shape[4] == 1:  # one number for all of a block
            x, layout = shaped(x, x.spec.shape[:4], n), "NCHW"
        count = shape[axis(layout)] if block(layout) else None
        if image_shape(layout, x.spec.shape, count)[axis(self.to)] == 1 and block(self.to):
            x = as_plain(x, layout, count, n)
            return shaped(x, (*x.spec.shape, 1), n), None
        there = Reorder(layout, self.to, count)
        return (x if layout == self.to else made(there, (x,), n)), ZERO


PLAIN = Reorder("NCHW", "NCHW")


def as_plain(x, layout, count, n) -> Node:
    """In NCHW; as it was before it was laid out, if it was."""
    if layout == "NCHW":
        return x
    if isinstance(x.op, Reorder) and (x.op.source, x.op.target) == ("NCHW", layout):
        return x.inputs[0]
    return made(Reorder(layout, "NCHW", count), (x,), n)


def padded(op, paddings):
    """What an elementwise step makes of padding; None if that is unknown, or no number: 0 / 0."""
    if any(p is None for p in paddings):
        return None
    try:
        with np.errstate(all="raise"):
            y = op.forward(*[np.asarray(p) for p in paddings])
        return y if np.isfinite(y).all() else None
    except (FloatingPointError, TinyinferError):
        return None


def like(x, n) -> bool:
    return x.spec.shape == n.spec.shape


def shaped(x, shape, n) -> Node:
    return x if x.spec.shape == shape else made(Reshape(shape), (x,), n)
