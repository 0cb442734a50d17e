"""Which bundle answers whom: the table in service, who wants it so, shadows, and metrics by bundle.

`table` swaps it whole, `live` asks the right engine for a user. Does not belong here: what an engine
computes.
"""
