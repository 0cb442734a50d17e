"""Spans of wall time round public functions, one request at a time.

Does not belong here: which functions, and what their times mean.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar
from unittest import mock

P = ParamSpec("P")
R = TypeVar("R")


class NeverEntered(Exception):
    """A function that was to be measured was not called, or not once: the code under it has changed."""


class Spans:
    """When each named span of the current request began and ended, on `time.perf_counter`."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._ended: dict[str, float] = {}

    def reset(self) -> None:
        self._began.clear()
        self._ended.clear()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        if name in self._began:
            raise NeverEntered(f"{name} was entered twice in one request")
        self._began[name] = time.perf_counter()
        try:
            yield
        finally:
            self._ended[name] = time.perf_counter()

    def began(self, name: str) -> float:
        return self._at(self._began, name)

    def ended(self, name: str) -> float:
        return self._at(self._ended, name)

    def seconds(self, name: str) -> float:
        return self.ended(name) - self.began(name)

    def timed(self, name: str, function: Callable[P, R]) -> Callable[P, R]:
        def measured(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.span(name):
                return function(*args, **kwargs)

        return measured

    @contextmanager
    def round_functions(self, functions: dict[str, tuple[object, str]]) -> Iterator[None]:
        """Span name → (module or class, name of its function): each is measured inside the block."""
        with ExitStack() as stack:
            for name, (owner, attribute) in functions.items():
                original = getattr(owner, attribute)
                stack.enter_context(mock.patch.object(owner, attribute, self.timed(name, original)))
            yield

    @staticmethod
    def _at(times: dict[str, float], name: str) -> float:
        try:
            return times[name]
        except KeyError:
            raise NeverEntered(f"{name} was not entered: what is measured has changed") from None
