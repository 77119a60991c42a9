"""Each test gets the same numbers, whichever ran before it."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def the_same_numbers(request):
    for name, x in list(vars(request.module).items()):
        if isinstance(x, np.random.Generator):
            setattr(request.module, name, np.random.default_rng(0))
        elif isinstance(x, np.random.RandomState):
            setattr(request.module, name, np.random.RandomState(0))
