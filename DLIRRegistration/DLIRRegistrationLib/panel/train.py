"""Train: a model of one's own, in the background."""

from __future__ import annotations

from collections.abc import Callable

from DLIRRegistrationLib.panel.section import Host, Section


class TrainSection(Section):
    def __init__(self, host: Host, add_model: Callable[[str], str | None]) -> None:
        super().__init__(host)
        self._add_model = add_model

    def poll(self) -> None:
        pass
