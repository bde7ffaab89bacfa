"""Search for what nobody has thought of: random models and random sequences of what is done to them.

One way through, as everywhere:

    generating  random programs, by Hypothesis                                        the parent
    column      has them run in a column's environment, and survives what they do     the parent
    executing   does what a program says, and looks at every model after each step    in the column
    ideal       what must hold, in a few lines of NumPy                                in both
    judging     holds what was seen against it                                         in both
    searching   the first thing that does not hold, made as small as it gets; then the next    the parent

A deviation that is known, see `known`, is counted and not told again.
"""
