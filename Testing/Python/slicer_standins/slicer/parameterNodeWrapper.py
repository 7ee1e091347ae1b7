"""`slicer.parameterNodeWrapper`: typed access to a parameter node, and its connection with widgets.

Behaves as Slicer's own wherever the panel could trip, which test_standins.py goes through: where values lie in the
node, that they are remembered and when they are read anew, who observes the node and for how long, what a connection
does to a widget. Types and widgets that the panel does not use are refused.
"""

from __future__ import annotations

import enum
import types
import typing
import weakref
from collections.abc import Callable, Iterable, MutableSequence
from typing import Annotated, Any

import ctk
import qt
import slicer
import vtk

__all__ = ["Choice", "WithinRange", "parameterNodeWrapper"]

_PROPERTY = "SlicerParameterName"
_MODIFIED = vtk.vtkCommand.ModifiedEvent


class WithinRange:
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within [{self.minimum}, {self.maximum}]")


class Choice:
    def __init__(self, choices: list[Any]) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"{value} is none of {self.choices}")


# -- how values of a type lie in the node -----------------------------------------------------------------


class _Text:
    """A number, text, bool or enumeration: a parameter of that name."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.default = next(iter(kind)) if issubclass(kind, enum.Enum) else kind()

    def check(self, value: Any) -> None:
        if value is None and not issubclass(self.kind, enum.Enum):
            raise ValueError(f"None is no {self.kind}")
        if not isinstance(value, (int, float) if self.kind is float else self.kind):
            raise TypeError(f"{value!r} is no {self.kind}")

    def is_in(self, node: Any, name: str) -> bool:
        return bool(node.GetParameterCount()) and name in node.GetParameterNames()

    def read(self, node: Any, name: str) -> Any:
        text = node.GetParameter(name)
        if self.kind is bool:
            return text == "True"
        if issubclass(self.kind, enum.Enum):
            if text not in self.kind.__members__:
                raise ValueError(f"{text!r} is none of {self.kind}")
            return self.kind[text]
        return self.kind(text)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, value.name if isinstance(value, enum.Enum) else str(value))

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class _Node(_Text):
    """A node: a reference, and an empty parameter of the same name, since no node is a value too."""

    def __init__(self, kind: Any) -> None:
        self.kind, self.default = kind, None

    def check(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.kind):
            raise TypeError(f"{value!r} is no {self.kind}")

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def remove(self, node: Any, name: str) -> None:
        super().remove(node, name)
        node.RemoveNodeReferenceIDs(name)


class _Either:
    """A node of one of several types, or None: under the name and the number of the type."""

    def __init__(self, members: tuple[Any, ...]) -> None:
        if type(None) not in members:
            raise TypeError(f"{members} needs '| None': Slicer cannot store an unset choice between them without it")
        self.members = [_Text(bool) if member is type(None) else _Node(member) for member in members]
        self.default = None

    def _number(self, value: Any) -> int:
        for number, member in enumerate(self.members):
            if isinstance(value, member.kind) if isinstance(member, _Node) else value is None:
                return number
        raise TypeError(f"{value!r} is none of {[member.kind for member in self.members]}")

    def check(self, value: Any) -> None:
        self._number(value)

    def is_in(self, node: Any, name: str) -> bool:
        return any(member.is_in(node, f"{name}.{number}") for number, member in enumerate(self.members))

    def read(self, node: Any, name: str) -> Any:
        for number, member in enumerate(self.members):
            if member.is_in(node, f"{name}.{number}"):
                return member.read(node, f"{name}.{number}") if isinstance(member, _Node) else None
        raise KeyError(name)

    def write(self, node: Any, name: str, value: Any) -> None:
        number = self._number(value)
        self.remove(node, name)
        self.members[number].write(node, f"{name}.{number}", True if value is None else value)

    def remove(self, node: Any, name: str) -> None:
        for number, member in enumerate(self.members):
            member.remove(node, f"{name}.{number}")


class _List:
    """A list of nodes: under the name with ".len" its length, and each under its number."""

    def __init__(self, element: _Node) -> None:
        self.element, self.length = element, _Text(int)

    @property
    def default(self) -> list[Any]:
        return []

    def check(self, value: Any) -> None:
        for item in value:
            self.element.check(item)

    def is_in(self, node: Any, name: str) -> bool:
        return self.length.is_in(node, f"{name}.len")

    def read(self, node: Any, name: str) -> _Observed:
        count = self.length.read(node, f"{name}.len") if self.is_in(node, name) else 0
        return _Observed(self, node, name, [self.element.read(node, f"{name}.{index}") for index in range(count)])

    def write(self, node: Any, name: str, value: Iterable[Any]) -> None:
        former, items = len(self.read(node, name)), list(value)
        for index, item in enumerate(items):
            self.element.write(node, f"{name}.{index}", item)
        self.length.write(node, f"{name}.len", len(items))
        for index in range(len(items), former):
            self.element.remove(node, f"{name}.{index}")


class _Observed(MutableSequence[Any]):
    """What is read of a list; changing it changes the node, and it can be added to no other."""

    def __init__(self, store: _List, node: Any, name: str, items: list[Any]) -> None:
        self._store, self._node, self._name, self._items = store, node, name, items

    def _save(self) -> None:
        self._store.check(self._items)
        with slicer.util.NodeModify(self._node):
            self._store.write(self._node, self._name, self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, _Observed) else other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[index] = value
        self._save()

    def __delitem__(self, index: Any) -> None:
        del self._items[index]
        self._save()

    def insert(self, index: int, value: Any) -> None:
        self._items.insert(index, value)
        self._save()

    def __add__(self, other: Any) -> Any:
        raise NotImplementedError("a list of parameters cannot be added to another one")

    __radd__ = __add__


def _store_of(name: str, kind: Any) -> Any:
    members = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return _Either(members)
    if typing.get_origin(kind) is list and issubclass(members[0], slicer.vtkMRMLNode):
        return _List(_Node(members[0]))
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return _Node(kind)
    if isinstance(kind, type) and (kind in (bool, float, int, str) or issubclass(kind, enum.Enum)):
        return _Text(kind)
    raise TypeError(f"{name}: no stand-in for parameters of type {kind}")


class _Parameter:
    """One typed value: its name, how it lies in a node, and what it may be."""

    def __init__(self, name: str, annotated: Any, default: Any) -> None:
        self.name = name
        self.kind, *self.validators = typing.get_args(Annotated[annotated, ""])[:-1]
        self.store = _store_of(name, self.kind)
        self.default = self.store.default if default is None else default

    def read(self, node: Any) -> Any:
        if not self.store.is_in(node, self.name):
            self.store.write(node, self.name, self.default)
        return self.store.read(node, self.name)

    def write(self, node: Any, value: Any) -> None:
        self.store.check(value)
        for validator in self.validators:
            validator.validate(value)
        self.store.write(node, self.name, value)


class _Held:
    """A parameter of a certain node. Its value is remembered until the node tells that it has been modified."""

    def __init__(self, parameter: _Parameter, node: Any) -> None:
        self.parameter, self.node = parameter, node
        if not parameter.store.is_in(node, parameter.name):
            parameter.write(node, parameter.default)
        self.value = parameter.read(node)
        self._writing = False
        me = weakref.ref(self)
        self._tag = node.AddObserver(_MODIFIED, lambda caller, event: me()._on_modified())  # type: ignore[union-attr]

    def __del__(self) -> None:
        self.node.RemoveObserver(self._tag)

    def _on_modified(self) -> None:
        if not self._writing:
            self.value = self.parameter.read(self.node)

    def write(self, value: Any) -> None:
        self._writing = True
        try:
            with slicer.util.NodeModify(self.node):
                self.parameter.write(self.node, value)
                self.value = self.parameter.read(self.node)
        finally:
            self._writing = False


# -- widgets ----------------------------------------------------------------------------------------------


class _Connector:
    """One widget that shows and changes one parameter: how to read it, how to write it, which signal tells."""

    def __init__(self, widget: Any, parameter: _Parameter) -> None:
        self.widget, self._callback = widget, None
        kind = parameter.kind
        is_enum = isinstance(kind, type) and issubclass(kind, enum.Enum)
        by_type = type(widget)
        if kind is bool and by_type in (qt.QCheckBox, qt.QPushButton):
            self._by_property("checked", "stateChanged" if by_type is qt.QCheckBox else "toggled")
        elif kind is int and by_type in (qt.QSpinBox, qt.QSlider):
            self._by_property("value", "valueChanged")
            self.widget.setRange(int(_range(parameter).minimum), int(_range(parameter).maximum))
        elif kind is float and by_type in (ctk.ctkSliderWidget, qt.QDoubleSpinBox):
            self._by_property("value", "valueChanged")
            self.widget.minimum, self.widget.maximum = _range(parameter).minimum, _range(parameter).maximum
        elif kind is str and by_type is qt.QLineEdit:
            self._by_property("text", "textChanged")
        elif by_type is qt.QComboBox and is_enum:
            self._by_choice(list(kind), getattr(kind, "label", lambda member: member.name), keep=True)
        elif by_type is qt.QComboBox and kind is str:
            self._by_choice(_choices(parameter), str, keep=False)
        elif by_type is slicer.qMRMLNodeComboBox and isinstance(parameter.store, (_Node, _Either)):
            members = getattr(parameter.store, "members", [parameter.store])
            widget.nodeTypes = [member.kind().GetClassName() for member in members if isinstance(member, _Node)]
            self.read, self.write = widget.currentNode, widget.setCurrentNode
            self.signal = widget.currentNodeChanged
        else:
            raise RuntimeError(f"{parameter.name}: a {kind} cannot be connected with a {by_type.__name__}")

    def on_changed(self, callback: Callable[[], None] | None) -> None:
        """Call this from now on when the user has changed the widget; nothing for None."""
        self._callback = callback
        (self.signal.connect if callback is not None else self.signal.disconnect)(self.changed)

    def changed(self) -> None:
        if self._callback is not None:
            self._callback()

    def _by_property(self, name: str, signal: str) -> None:
        self.read: Callable[[], Any] = lambda: getattr(self.widget, name)
        self.write: Callable[[Any], None] = lambda value: setattr(self.widget, name, value)
        self.signal = getattr(self.widget, signal)

    def _by_choice(self, choices: list[Any], label: Callable[[Any], str], keep: bool) -> None:
        """Fills the list anew. Where `keep`, what was chosen in it stays so, or the last one where nothing was."""
        self.read = lambda: choices[self.widget.currentIndex]
        self.write = lambda value: setattr(self.widget, "currentIndex", choices.index(value))
        self.signal = self.widget.currentIndexChanged
        chosen = self.read()
        self.widget.clear()
        for choice in choices:
            self.widget.addItem(label(choice))
        if keep:
            self.write(chosen)


def _range(parameter: _Parameter) -> WithinRange:
    found = [validator for validator in parameter.validators if isinstance(validator, WithinRange)]
    if not found:
        raise RuntimeError(f"{parameter.name} needs WithinRange to be connected with a slider")
    return found[0]


def _choices(parameter: _Parameter) -> list[Any]:
    found = [validator for validator in parameter.validators if isinstance(validator, Choice)]
    if not found:
        raise RuntimeError(f"{parameter.name} needs Choice to be connected with a combo box")
    return found[0].choices


# -- the wrapper ------------------------------------------------------------------------------------------


class _Members:
    """What the decorator gives to the class, which may have none of these itself."""

    allParameters: dict[str, _Parameter]  # noqa: N815
    parameterNode: Any  # noqa: N815
    _held: dict[str, _Held]
    _guis: dict[int, tuple[dict[str, _Connector], int]]
    _next_tag: int
    _updating: bool

    def connectGui(self, gui: Any) -> int:  # noqa: N802
        named = {widget.property(_PROPERTY): widget for widget in vars(gui).values() if widget.property(_PROPERTY)}
        for name in named:
            if name not in self.allParameters:
                raise ValueError(f"a widget names '{name}', which is no parameter")
        connectors = {name: _Connector(widget, self.allParameters[name]) for name, widget in named.items()}
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.on_changed(self._callback(name, connector))
        # Refers to the wrapper, which therefore lives until it is disconnected.
        self._guis[tag] = connectors, self.AddObserver(_MODIFIED, lambda caller, event: self._update())
        return tag

    def disconnectGui(self, tag: int | None) -> None:  # noqa: N802
        if tag in self._guis:
            connectors, observer = self._guis.pop(tag)
            for connector in connectors.values():
                connector.on_changed(None)
            self.RemoveObserver(observer)

    def _callback(self, name: str, connector: _Connector) -> Callable[[], None]:
        def changed() -> None:
            with slicer.util.NodeModify(self):
                if not self._updating:
                    self.setValue(name, connector.read())

        return changed

    def _update(self) -> None:
        """Shows all values in all that is connected; what widgets tell meanwhile is not written."""
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for connectors, _ in list(self._guis.values()):
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating = False

    def getValue(self, name: str) -> Any:  # noqa: N802
        return self._held[name].value

    def setValue(self, name: str, value: Any) -> None:  # noqa: N802
        self._held[name].write(value)

    def default(self, name: str) -> Any:
        return self.allParameters[name].default

    def AddObserver(self, event: Any, handler: Any, priority: float = 0.0) -> int:  # noqa: N802
        return int(self.parameterNode.AddObserver(event, handler, priority))

    def RemoveObserver(self, tag: int) -> None:  # noqa: N802
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:  # noqa: N802
        return int(self.parameterNode.StartModify())

    def EndModify(self, was: int) -> None:  # noqa: N802
        self.parameterNode.EndModify(was)

    def Modified(self) -> None:  # noqa: N802
        self.parameterNode.Modified()


# What Slicer's has besides, which must not be the name of a parameter either.
_RESERVED = ("allParameters", "isCached", "dataType", "connectParametersToGui")


def _start(self: Any, node: Any) -> None:
    self.parameterNode = node
    self._guis, self._next_tag, self._updating = {}, 0, False
    self._held = {name: _Held(parameter, node) for name, parameter in self.allParameters.items()}


def parameterNodeWrapper(cls: type) -> type:  # noqa: N802
    """The class itself, with its annotated attributes as parameters of a node and another `__init__`."""
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = {name: _Parameter(name, kind, getattr(cls, name, None)) for name, kind in hints.items()}
    for name in parameters:
        setattr(cls, name, property(lambda self, n=name: self.getValue(n), lambda self, v, n=name: self.setValue(n, v)))
    members = {name: member for name, member in vars(_Members).items() if not name.startswith("__")}
    for name in (*members, *_RESERVED):
        if hasattr(cls, name):
            raise ValueError(f"'{name}' cannot be the name of a parameter")
    for name, member in {**members, "allParameters": parameters, "__init__": _start}.items():
        setattr(cls, name, member)
    return cls
