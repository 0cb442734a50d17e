"""Data in: MovieLens, a user's own tables or a seeded synthetic world, as three Arrow tables.

Does not belong here: features (the `features` package) and anything that knows a model. Nothing outside
this package knows a file format or that the first domain is films.
"""
