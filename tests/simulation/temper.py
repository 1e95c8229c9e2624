"""How bad a world is: drawn from its seed, so that some know one kind of trouble, some all, and some none."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import inf
from random import Random


@dataclass
class Temper:
    """How bad this world is. Probabilities are for each request or chain; times in seconds."""

    latency: float
    transient: float
    stall: float
    throttle: float
    ended: float
    rejected: float
    lasting: float
    odd_chain: float
    deleted: float
    pushed: float
    disabled: float
    taken_back: float
    role: float
    clock: float
    rate: float
    session: float

    @property
    def calm(self) -> bool:
        """Whether nothing is amiss."""
        return self == replace(CALM, latency=self.latency)

    @classmethod
    def of(cls, dice: Random) -> Temper:
        def sometimes(most: float) -> float:
            return dice.choice([0.0, most / 4, most])

        latency = dice.choice([0.0, 0.01, 0.3, 3.0])
        if dice.random() < 0.1:
            return replace(CALM, latency=latency)
        return cls(
            latency=latency,
            transient=sometimes(0.3),
            stall=sometimes(0.05),
            throttle=sometimes(0.3),
            ended=sometimes(0.05),
            rejected=sometimes(0.2),
            lasting=sometimes(0.1),
            odd_chain=sometimes(0.1),
            deleted=sometimes(0.2),
            pushed=sometimes(0.2),
            disabled=sometimes(0.4),
            taken_back=sometimes(0.2),
            role=sometimes(0.3),
            clock=dice.choice([0.0, 0.0, 0.0, 0.002]),
            rate=dice.choice([0.5, 2.0, 10.0, 1e9]),
            session=dice.choice([900.0, 3600.0, 1e9]),
        )


#: Nothing is amiss: there is time for everything, and everything is OK.
CALM = Temper(**{field.name: 0.0 for field in fields(Temper)} | {"rate": inf, "session": inf})
