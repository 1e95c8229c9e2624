"""What the server has seen: the numbers behind `GET /stats`."""

from __future__ import annotations

from collections import Counter
from typing import Any

#: (registry or account, region, operation); the first two are empty where a request is refused before they are known
Place = tuple[str, str, str]


class Counters:
    """Counts since the start or the last `POST /reset`. In-flight numbers survive a reset: those requests are real."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.in_flight_by: dict[Place, int] = {}
        self.reset()

    def reset(self) -> None:
        """Start counting anew."""
        self.requests_by: dict[Place, int] = {}
        self.throttled: Counter[Place] = Counter()
        self.errors: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.connections = 0
        self.peak = self.in_flight
        self.peak_by = dict(self.in_flight_by)
        self.assumed: list[dict[str, Any]] = []
        self.redirected: list[dict[str, Any]] = []

    def enter(self, place: Place) -> None:
        """A request has come and is being answered."""
        self.requests_by[place] = self.requests_by.get(place, 0) + 1
        self.in_flight = total = self.in_flight + 1
        self.peak = max(self.peak, total)
        self.in_flight_by[place] = here = self.in_flight_by.get(place, 0) + 1
        if here > self.peak_by.get(place, 0):
            self.peak_by[place] = here

    def leave(self, place: Place) -> None:
        """Its answer is out, or its connection gone."""
        self.in_flight -= 1
        self.in_flight_by[place] -= 1

    def snapshot(self) -> dict[str, Any]:
        """For JSON. Operations are named as in policies, `ecr:ListImages`, and places `registry/region/operation`."""
        requests: Counter[str] = Counter()
        for (_, _, operation), count in self.requests_by.items():
            requests[operation] += count
        return {
            "requests": requests,
            "requests_by": {"/".join(key): count for key, count in self.requests_by.items()},
            "throttled": {"/".join(key): count for key, count in self.throttled.items()},
            "errors": dict(self.errors),
            "faults": dict(self.faults),
            "connections": self.connections,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak,
            "peak_in_flight_by": {"/".join(key): count for key, count in self.peak_by.items()},
            "assumed_roles": self.assumed,
            "redirected": self.redirected,
        }
