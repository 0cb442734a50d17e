"""Stages of a company of its own, as a package that knows Marquee and is not known by it."""
