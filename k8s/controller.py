"""`marquee rollout watch`: drives every rollout that has a record, one turn each, for ever; and does what
else is to be done again and again (`chores`).

Does not belong here: one rollout's turn (`k8s.driver`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from k8s.client import CONFIG_MAPS, Cluster
from k8s.driver import AWAY_S, LONGEST_POLL_S, Driver, Said
from k8s.errors import ControlError, Unavailable
from k8s.rayservice import RayServiceTarget, services
from k8s.signals import SignalSource
from k8s.target import Target
from k8s.traffic_object import LABEL

log = logging.getLogger(__name__)


class Fleet(Protocol):
    """The targets that may have a rollout."""

    def targets(self) -> dict[str, Target]:
        """By name; every call may find others."""
        ...

    def wait(self, seconds: float) -> None:
        """Returns when a rollout may have begun, at the latest after so many seconds."""
        ...


class NamespaceFleet:
    """The RayServices of one namespace, or one of them."""

    def __init__(self, cluster: Cluster, namespace: str, name: str | None = None) -> None:
        self._cluster, self._namespace, self._name = cluster, namespace, name

    def targets(self) -> dict[str, Target]:
        names = services(self._cluster, self._namespace) if self._name is None else [self._name]
        return {name: RayServiceTarget(self._cluster, self._namespace, name) for name in names}

    def wait(self, seconds: float) -> None:
        try:
            next(self._cluster.watch(CONFIG_MAPS, self._namespace, seconds, LABEL), None)
        except Unavailable as error:
            log.warning("%s", error)


class SingleFleet:
    """One target."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def targets(self) -> dict[str, Target]:
        return {self._target.name: self._target}

    def wait(self, seconds: float) -> None:
        self._target.wait(seconds)


@dataclass(slots=True)
class Controller:
    """Attributes:
    signals: makes a source for a target.
    said: told each decision.
    chores: done once a round beside the rollouts.
    """

    fleet: Fleet
    signals: Callable[[Target], SignalSource | None]
    said: Said
    chores: Sequence[Callable[[], None]] = ()
    _drivers: dict[str, Driver] = field(default_factory=dict, init=False)
    _problems: dict[str, str] = field(default_factory=dict, init=False)

    def run(self) -> None:
        while True:
            self.fleet.wait(self.round())

    def round(self) -> float:
        """One turn of every rollout under way; what fails for one is logged and does not hold up the others.

        Returns:
            s until the next round.
        """
        for chore in self.chores:
            try:
                chore()
            except ControlError as error:
                log.warning("%s", error)
        try:
            targets = self.fleet.targets()
        except ControlError as error:
            log.warning("%s", error)
            return AWAY_S
        for gone in self._drivers.keys() - targets.keys():
            del self._drivers[gone]
        return min([self._turn(name, target) for name, target in targets.items()], default=LONGEST_POLL_S)

    def _turn(self, name: str, target: Target) -> float:
        try:
            record = target.load()
            if record is None:
                return self._tend(name, target)
            if name not in self._drivers:
                self._drivers[name] = Driver(target, self.signals(target), self.said)
            if record.rollout.state.phase.over:
                self._drivers[name].settle(record.rollout)
                return self._tend(name, target)
            return self._drivers[name].rest_s(*self._drivers[name].turn())
        except ControlError as error:
            log.warning("%s: %s", target.name, error)
            return AWAY_S

    def _tend(self, name: str, target: Target) -> float:
        """Without a rollout. What is wrong is logged once, until it is something else."""
        problem = target.tend()
        if problem != self._problems.get(name, ""):
            log.warning("%s: %s", target.name, problem or "all is well again")
        self._problems[name] = problem
        return LONGEST_POLL_S
