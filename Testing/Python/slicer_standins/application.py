"""`slicer.app` and the little around it that a module's panel meets, for tests without the application."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class ModuleManager:
    """Tells modules that they are about to be unloaded."""

    def __init__(self) -> None:
        self._handlers: list[Callable[[str], None]] = []

    def connect(self, signature: str, handler: Callable[[str], None]) -> None:
        assert signature == "moduleAboutToBeUnloaded(QString)"
        self._handlers.append(handler)

    def disconnect(self, signature: str, handler: Callable[[str], None]) -> None:
        self._handlers.remove(handler)

    def unload(self, name: str) -> None:
        for handler in list(self._handlers):
            handler(name)


class Settings:
    """The user's settings as QSettings keeps them: None for what was never set, and text for what was."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def value(self, key: str) -> str | None:
        return self._values.get(key)

    def setValue(self, key: str, value: str) -> None:  # noqa: N802
        assert isinstance(value, str), "other types come back as text, or not, as the platform has it"
        self._values[key] = value


class Application(SimpleNamespace):
    """As Slicer started for tests: no main window, and no message box may wait for an answer.

    given: what else `slicer.app` has.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**{name: value for name, value in given.items() if not hasattr(type(self), name)})
        self.applicationName = "Slicer"
        self.testing = True
        self._modules = ModuleManager()
        self._settings = Settings()
        self._started: list[Callable[[], None]] = []

    def connect(self, signature: str, handler: Callable[[], None]) -> None:
        assert signature == "startupCompleted()"
        self._started.append(handler)

    def complete_startup(self) -> None:
        """Slicer has loaded its modules."""
        for handler in self._started:
            handler()

    def moduleManager(self) -> ModuleManager:  # noqa: N802
        return self._modules

    def userSettings(self) -> Settings:  # noqa: N802
        return self._settings

    def testingEnabled(self) -> bool:  # noqa: N802
        return self.testing

    def topLevelWidgets(self) -> list[Any]:  # noqa: N802
        return []
