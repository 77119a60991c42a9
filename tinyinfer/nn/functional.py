"""Every op under the name that PyTorch's users look for: `from tinyinfer.nn import functional as F`."""

from ..ops import *  # noqa: F403
