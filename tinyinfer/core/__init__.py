"""The heart. To be read in this order: spec, trace, tensor, op, autograd."""
