"""`slicer.parameterNodeWrapper`: typed access to a parameter node, and its connection with widgets.

As in Slicer, values are kept as text and node references in the node, so they survive in a saved scene, and a widget
is found by its dynamic property SlicerParameterName. Types and widgets that the panel does not use are refused.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

import ctk
import qt
import slicer
import vtk

__all__ = ["Choice", "WithinRange", "parameterNodeWrapper"]

_PROPERTY = "SlicerParameterName"


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


class _Parameter:
    """One typed value in a parameter node."""

    def __init__(self, name: str, annotated: Any, default: Any) -> None:
        self.name = name
        self.kind, *self.validators = typing.get_args(Annotated[annotated, ""])[:-1]
        self.node_types = _node_types(self.kind)
        self.is_list = typing.get_origin(self.kind) is list
        self.default = default if default is not None else self._natural_default()

    def _natural_default(self) -> Any:
        if self.node_types:
            return [] if self.is_list else None
        if self.kind not in (bool, float, int, str) and not issubclass(self.kind, enum.Enum):
            raise TypeError(f"{self.name}: no stand-in for parameters of type {self.kind}")
        return next(iter(self.kind)) if issubclass(self.kind, enum.Enum) else self.kind()

    def is_in(self, node: Any) -> bool:
        return bool(node.GetParameterCount()) and self.name in node.GetParameterNames()

    def read(self, node: Any) -> Any:
        if self.is_list:
            count = node.GetNumberOfNodeReferences(self.name)
            return [node.GetNthNodeReference(self.name, index) for index in range(count)]
        if self.node_types:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.kind is bool:
            return text == "True"
        return self.kind[text] if issubclass(self.kind, enum.Enum) else self.kind(text)

    def write(self, node: Any, value: Any) -> None:
        self.validate(value)
        text = ""
        if self.is_list:
            node.RemoveNodeReferenceIDs(self.name)
            for index, item in enumerate(value):
                node.SetNthNodeReferenceID(self.name, index, item.GetID())
        elif self.node_types:
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        else:
            text = value.name if isinstance(value, enum.Enum) else str(value)
        node.SetParameter(self.name, text)

    def validate(self, value: Any) -> None:
        for item in value if self.is_list else [value]:
            if item is None and self.node_types and not self.is_list:
                continue
            if not isinstance(item, self.node_types or self.kind):
                raise TypeError(f"{self.name} is {value!r}, which is no {self.kind}")
        for validator in self.validators:
            validator.validate(value)


def _node_types(kind: Any) -> tuple[type, ...]:
    members = typing.get_args(kind) if typing.get_origin(kind) in (list, typing.Union, types.UnionType) else (kind,)
    nodes = tuple(m for m in members if isinstance(m, type) and issubclass(m, slicer.vtkMRMLNode))
    if len(nodes) > 1 and type(None) not in members:
        raise TypeError(f"{kind} needs '| None': Slicer cannot store an unset choice between node types without it")
    return nodes


class _Connector:
    """One widget that shows and changes one parameter: how to read it, how to write it, which signal tells."""

    def __init__(self, widget: Any, parameter: _Parameter) -> None:
        self.widget = widget
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
        elif by_type is qt.QComboBox and (is_enum or kind is str):
            self._by_choice(list(kind) if is_enum else _choices(parameter), kind.label if is_enum else str)
        elif by_type is slicer.qMRMLNodeComboBox and parameter.node_types and not parameter.is_list:
            widget.nodeTypes = [node().GetClassName() for node in parameter.node_types]
            self.read, self.write = widget.currentNode, widget.setCurrentNode
            self.signal = widget.currentNodeChanged
        else:
            raise RuntimeError(f"{parameter.name}: a {kind} cannot be connected with a {by_type.__name__}")

    def _by_property(self, name: str, signal: str) -> None:
        self.read: Callable[[], Any] = lambda: getattr(self.widget, name)
        self.write: Callable[[Any], None] = lambda value: setattr(self.widget, name, value)
        self.signal = getattr(self.widget, signal)

    def _by_choice(self, choices: list[Any], label: Callable[[Any], str]) -> None:
        self.widget.clear()
        for choice in choices:
            self.widget.addItem(label(choice))
        self.read = lambda: choices[self.widget.currentIndex]
        self.write = lambda value: setattr(self.widget, "currentIndex", choices.index(value))
        self.signal = self.widget.currentIndexChanged


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


class _Wrapper:
    """What the decorator adds to the class."""

    allParameters: dict[str, _Parameter]  # noqa: N815

    def __init__(self, node: Any) -> None:
        self.parameterNode = node
        self._connected: dict[int, tuple[list[tuple[Any, Any]], int]] = {}
        self._updating = False
        for parameter in self.allParameters.values():
            if not parameter.is_in(node):
                parameter.write(node, parameter.default)

    def connectGui(self, gui: Any) -> int:  # noqa: N802
        connections = []
        for widget in vars(gui).values():
            name = widget.property(_PROPERTY)
            if name:
                connector = _Connector(widget, self.allParameters[name])
                connector.write(getattr(self, name))
                handler = self._handler(name, connector)
                connector.signal.connect(handler)
                connections.append((connector, handler, name))
        tag = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._update(connections))
        self._connected[tag] = (connections, tag)
        return tag

    def disconnectGui(self, tag: int | None) -> None:  # noqa: N802
        if tag in self._connected:
            connections, observer = self._connected.pop(tag)
            self.RemoveObserver(observer)
            for connector, handler, _ in connections:
                connector.signal.disconnect(handler)

    def _handler(self, name: str, connector: _Connector) -> Callable[[], None]:
        def changed() -> None:
            if not self._updating:
                setattr(self, name, connector.read())

        return changed

    def _update(self, connections: list[tuple[_Connector, Any, str]]) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for connector, _, name in connections:
                connector.write(getattr(self, name))
        finally:
            self._updating = False

    def AddObserver(self, event: Any, handler: Any, priority: float = 0.0) -> int:  # noqa: N802
        return int(self.parameterNode.AddObserver(event, handler, priority))

    def RemoveObserver(self, tag: int) -> None:  # noqa: N802
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:  # noqa: N802
        return int(self.parameterNode.StartModify())

    def EndModify(self, was: int) -> None:  # noqa: N802
        self.parameterNode.EndModify(was)


def parameterNodeWrapper(cls: type) -> type:  # noqa: N802
    """The class with its annotated attributes as parameters of a node."""
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = {name: _Parameter(name, kind, getattr(cls, name, None)) for name, kind in hints.items()}

    def attribute(parameter: _Parameter) -> property:
        return property(
            lambda self: parameter.read(self.parameterNode),
            lambda self, value: parameter.write(self.parameterNode, value),
        )

    members = {name: attribute(parameter) for name, parameter in parameters.items()}
    return type(cls.__name__, (_Wrapper,), {**members, "allParameters": parameters, "__doc__": cls.__doc__})
