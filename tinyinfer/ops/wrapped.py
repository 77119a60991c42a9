"""Ops that carry out another one, elsewhere or in another way."""

from ..core.op import Op


class Wrapped(Op):
    """It has the flags of the op inside that say what a pass or a gradient may rely on."""

    op: Op


for flag in (
    "pure",
    "differentiable",
    "broadcasts",
    "anchor",
    "begins",
    "epilogue",
    "mac",
    "raises",
    "gives_image",
):
    setattr(Wrapped, flag, property(lambda self, flag=flag: getattr(self.op, flag)))
