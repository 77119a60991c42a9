"""What runs a graph: when each step has its turn, where in memory its result lies, and who does it.

    values    ::= block, ...                  the memory behind the values; a view has none
    order     ::= stage of steps, ...         the steps of one stage may run side by side
    lifetimes ::= home of each block, ...     from stage to stage; blocks may take turns in one home
                  buffer, ...                 the homes in the arena, and scratch memory of kernels
    placement ::= offset of each buffer       by one of many planners: memory.py, objects.py
    plan      ::= graph, kernel of each step, values, order, lifetimes, placement
    arena     ::= plan, and memory for it     for one call at a time
    executor  ::= plan, an arena for each call in flight, one thread or several
    compiled  ::= an executor for each kind of arguments, of what was traced with them

Each is made of those above it, in a file of its name. Beside them: nested.py, steps that hold graphs
and so have plans; machine.py and peak.py, how fast a core is; profile.py, what a run makes of that.
"""

from . import nested  # its kernels are found by type of op: nobody else imports it
