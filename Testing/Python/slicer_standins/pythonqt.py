"""Qt objects as PythonQt shows them to Python, made from PySide6's.

Slicer's Qt comes through PythonQt, whose habits differ from PySide6's. Code under test meets these objects only, so
what would fail in Slicer fails here too:

- a property is a plain attribute (`button.enabled`, `box.currentText`), so `button.enabled()` is an error;
- an attribute that the C++ class lacks can be neither read nor set;
- signals connect as `button.clicked.connect(f)` or `button.connect("clicked(bool)", f)`, and a handler is given as
  many of the signal's arguments as it takes;
- what a handler raises never reaches the emitter: it is kept in `escaped`, which tests look into.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6.QtCore import QMetaObject, QObject, SignalInstance

# Exceptions that handlers of signals raised, newest last.
escaped: list[BaseException] = []

_classes: dict[type, type[Object]] = {}

# PySide6 6.12 returns None, True and False without counting the reference. From Python 3.12 on that does not matter;
# before, after some ten thousand calls the interpreter would free them and abort.
if sys.version_info < (3, 12):
    for _singleton in (None, True, False):
        ctypes.c_ssize_t.from_address(id(_singleton)).value += 1 << 40


class _Class(type):
    """Attributes of a class are those of C++: values of enumerations, static methods, nested enumerations."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _member(cls.__dict__["cpp_class"], name)


class Object(metaclass=_Class):
    """One C++ object; equal to every other one that stands for the same C++ object."""

    cpp_class: Any = None

    def __init__(self, *arguments: Any) -> None:
        object.__setattr__(self, "cpp", type(self).cpp_class(*map(unwrap, arguments)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Object) and unwrap(self) is unwrap(other)

    def __hash__(self) -> int:
        return hash(unwrap(self))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        cpp = unwrap(self)
        if not shiboken6.isValid(cpp):
            raise ValueError(f"trying to read '{name}' of a destroyed {type(self).__name__}")
        if not isinstance(cpp, QObject):
            return _member(cpp, name)
        name = "objectName" if name == "name" else name
        if _is_property(cpp, name):
            return wrap(cpp.property(name))
        if hasattr(cpp, name):
            return _member(cpp, name)
        for child in cpp.children():
            if child.objectName() == name:
                return wrap(child)
        raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        cpp = unwrap(self)
        if not shiboken6.isValid(cpp):
            raise AttributeError(f"trying to set '{name}' of a destroyed {type(self).__name__}")
        name = "objectName" if name == "name" else name
        if not isinstance(cpp, QObject) or not _is_property(cpp, name):
            raise AttributeError(f"'{name}' is no property of {type(self).__name__}")
        accepted = value is not None and cpp.setProperty(name, unwrap(value))
        if not accepted and name.encode() not in cpp.dynamicPropertyNames():
            raise AttributeError(f"property '{name}' of {type(self).__name__} does not accept {value!r}")

    def connect(self, signature: str, handler: Callable[..., Any]) -> bool:
        """Connects by the signal's C++ signature, such as "clicked(bool)"; AttributeError where there is none."""
        self._signal(signature).connect(handler)
        return True

    def disconnect(self, signature: str, handler: Callable[..., Any]) -> bool:
        return self._signal(signature).disconnect(handler)

    def className(self) -> str:  # noqa: N802
        return str(unwrap(self).metaObject().className())

    def delete(self) -> None:
        """Destroys the C++ object, and with it everything inside of it."""
        shiboken6.delete(unwrap(self))

    def _signal(self, signature: str) -> Signal:
        cpp = unwrap(self)
        normalized = bytes(QMetaObject.normalizedSignature(signature).data()).decode()
        known = normalized in getattr(cpp, "SIGNALS", ()) or cpp.metaObject().indexOfSignal(normalized) >= 0
        if not known:
            raise AttributeError(f"{type(self).__name__} has no signal {signature}")
        name = normalized.partition("(")[0]
        return Signal(cpp, getattr(cpp, name), name)


class Signal:
    """A signal of one object."""

    def __init__(self, owner: QObject, signal: SignalInstance, name: str) -> None:
        # PySide6 takes the form of these without their argument, PythonQt the one with it.
        self._signal = signal[bool] if name in ("clicked", "triggered") else signal
        self._handlers: list[tuple[Any, ...]] = owner.__dict__.setdefault("signal_handlers", [])
        self._owner = owner

    def connect(self, handler: Callable[..., Any]) -> bool:
        guarded = _guarded(handler, self._owner)
        self._handlers.append((str(self._signal), handler, guarded))
        self._signal.connect(guarded)
        return True

    def disconnect(self, handler: Callable[..., Any]) -> bool:
        for entry in self._handlers:
            if entry[0] == str(self._signal) and entry[1] == handler:
                self._handlers.remove(entry)
                return bool(self._signal.disconnect(entry[2]))
        return False

    def emit(self, *arguments: Any) -> None:
        self._signal.emit(*map(unwrap, arguments))


def class_of(cpp_class: type) -> type[Object]:
    """The Python class of a class of PySide6, or of a class derived from one; the same one every time."""
    if cpp_class not in _classes:
        parent = cpp_class.__base__
        base = class_of(parent) if parent is not None and issubclass(parent, shiboken6.Object) else Object
        base = Object if cpp_class is shiboken6.Object else base
        _classes[cpp_class] = _Class(cpp_class.__name__, (base,), {"cpp_class": cpp_class})
    return _classes[cpp_class]


def wrap(value: Any) -> Any:
    """What Python is given for a value of Qt."""
    if isinstance(value, (list, tuple)):
        return [wrap(item) for item in value]
    if isinstance(value, shiboken6.Object) and not isinstance(value, enum.Enum):
        wrapped = object.__new__(class_of(type(value)))
        object.__setattr__(wrapped, "cpp", value)
        return wrapped
    return value


def unwrap(value: Any) -> Any:
    """What Qt is given for a value of Python."""
    if isinstance(value, Object):
        return object.__getattribute__(value, "cpp")
    if isinstance(value, (list, tuple)):
        return [unwrap(item) for item in value]
    return value


def _is_property(cpp: QObject, name: str) -> bool:
    return cpp.metaObject().indexOfProperty(name) >= 0 or name.encode() in cpp.dynamicPropertyNames()


def _member(owner: Any, name: str) -> Any:
    value = getattr(owner, name)
    if isinstance(value, SignalInstance):
        return Signal(owner, value, name)
    if isinstance(value, type):
        return class_of(value) if issubclass(value, shiboken6.Object) else value
    if not callable(value):
        return wrap(value)

    @functools.wraps(value)
    def method(*arguments: Any) -> Any:
        return wrap(value(*map(unwrap, arguments)))

    return method


def _guarded(handler: Callable[..., Any], owner: QObject) -> Callable[..., None]:
    wanted = _positional_arguments(handler)

    def guarded(*arguments: Any) -> None:
        try:
            handler(*map(wrap, arguments[:wanted]))
        except Exception as error:
            escaped.append(error)

    guarded.__dict__["owner"] = owner  # as long as it is connected, the owner's list of handlers is not lost
    return guarded


def _positional_arguments(handler: Callable[..., Any]) -> int | None:
    kinds = [parameter.kind for parameter in inspect.signature(handler).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)
