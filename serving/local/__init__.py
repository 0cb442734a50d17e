"""One run on this machine: what `marquee serve` starts, keeps and ends. Read `runtime.running`.

Does not belong here: what is served, and clusters that exist already.
"""
