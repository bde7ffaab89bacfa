"""One adapter per framework, its environment at the top; beside them a folder per subject that needs more code.

What an adapter builds, looks at and trains with stands in `models`, `uses` and `trainers`, where that is more
than a few lines. What its framework has besides stands in `lifecycles`, with `scripts` that show them, in
`formats`, `optimizers`, `layers` and `claims`.
"""
