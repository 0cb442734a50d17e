"""Side-by-side benchmarks. Absolute times mean nothing on another machine, so every claim is a ratio of arms
measured in turn, in one run.

Does not belong here: anything the platform needs at run time, and any assertion about a time.
"""
