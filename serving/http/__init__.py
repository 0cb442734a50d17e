"""The HTTP interface: routes, what is read and written (`schemas`, `wire`), problem documents, limits, keys.

A request passes `envelope` (id, metrics, trace), `limits`, and one route of `api`. Does not belong here: what
is recommended.
"""
