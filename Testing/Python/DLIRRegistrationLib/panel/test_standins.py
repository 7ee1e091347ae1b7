"""The stand-ins are as strict as PythonQt and Slicer are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mrml import MRML


@pytest.fixture
def modules(qt_application: Any, scene: MRML) -> Any:
    """`qt`, `ctk` and `slicer`."""
    from types import SimpleNamespace

    import ctk
    import qt
    import slicer

    return SimpleNamespace(qt=qt, ctk=ctk, slicer=slicer)


def test_a_property_is_an_attribute(modules: Any) -> None:
    button = modules.qt.QPushButton("Apply")
    assert button.text == "Apply"
    button.enabled = False
    assert button.enabled is False
    with pytest.raises(TypeError):
        button.enabled()
    with pytest.raises(TypeError):
        button.text()


def test_what_the_class_lacks_can_be_neither_read_nor_set(modules: Any) -> None:
    button = modules.qt.QPushButton()
    for name in ("tooltip", "is_enabled", "setTooltip"):
        with pytest.raises(AttributeError):
            getattr(button, name)
        with pytest.raises(AttributeError):
            setattr(button, name, 1)
    for name in ("clicked", "setText"):
        with pytest.raises(AttributeError):
            setattr(button, name, 1)
    with pytest.raises(AttributeError):
        button.text = None


def test_signals_connect_in_two_ways_and_hand_over_as_much_as_is_wanted(modules: Any) -> None:
    button, heard = modules.qt.QPushButton(), []
    button.checkable = True

    def with_value(checked: bool) -> None:
        heard.append(checked)

    button.connect("clicked(bool)", with_value)
    button.clicked.connect(lambda: heard.append("nothing"))
    button.click()
    assert heard == [True, "nothing"]
    assert button.disconnect("clicked(bool)", with_value)
    assert not button.clicked.disconnect(with_value)
    button.click()
    assert heard == [True, "nothing", "nothing"]
    with pytest.raises(AttributeError):
        button.connect("pressedHard(bool)", with_value)


def test_what_a_handler_raises_is_kept_and_does_not_spread(modules: Any) -> None:
    import pythonqt

    button = modules.qt.QPushButton()

    def fails() -> None:
        raise ValueError("oh")

    button.connect("clicked(bool)", fails)
    button.click()
    assert [str(error) for error in pythonqt.escaped] == ["oh"]
    pythonqt.escaped.clear()


def test_a_destroyed_object_cannot_be_used(modules: Any) -> None:
    import pythonqt
    import shiboken6

    label = modules.qt.QLabel("text")
    shiboken6.delete(pythonqt.unwrap(label))
    with pytest.raises(ValueError, match="destroyed"):
        _ = label.text
    with pytest.raises(AttributeError, match="destroyed"):
        label.text = "other"


def test_classes_have_their_enumerations_and_are_the_same_each_time(modules: Any) -> None:
    qt = modules.qt
    box = qt.QComboBox()
    assert type(box) is qt.QComboBox
    assert isinstance(box, qt.QWidget)
    assert qt.QHeaderView.Stretch == qt.QHeaderView.Stretch
    assert qt.Qt.Checked != qt.Qt.Unchecked


def test_a_node_box_follows_the_scene(modules: Any, scene: MRML) -> None:
    box = modules.slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.noneEnabled = True
    heard: list[Any] = []
    box.connect("currentNodeChanged(vtkMRMLNode*)", heard.append)
    box.setMRMLScene(scene.scene)
    assert box.enabled
    first, second = scene.add("ScalarVolume", "first"), scene.add("ScalarVolume", "second")
    scene.add("Transform", "none of these")
    box.setCurrentNode(second)
    assert box.currentNode() is second
    scene.scene.RemoveNode(second)
    assert box.currentNode() is first, "as in Slicer, the neighbour is chosen"
    assert heard == [second, first]


def test_a_child_of_a_folded_section_stays_hidden(modules: Any) -> None:
    section = modules.ctk.ctkCollapsibleButton()
    layout = modules.qt.QVBoxLayout(section)
    label = modules.qt.QLabel("inside")
    layout.addWidget(label)
    section.collapsed = True
    section.show()
    label.visible = True
    assert not label.visible
    section.collapsed = False
    assert label.visible
    section.hide()


def test_a_parameter_is_checked_against_its_type(modules: Any, scene: MRML) -> None:
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

    kinds = {"count": int, "part": modules.slicer.vtkMRMLScalarVolumeNode}
    node = scene.add("ScriptedModule", "parameters")
    wrapped = parameterNodeWrapper(type("Parameters", (), {"__annotations__": kinds, "count": 3}))(node)
    assert (wrapped.count, wrapped.part) == (3, None)
    with pytest.raises(TypeError):
        wrapped.count = "many"
    with pytest.raises(TypeError):
        wrapped.part = scene.add("Transform", "none")
    with pytest.raises(ValueError, match="not within"):
        WithinRange(0, 1).validate(2)


def test_a_choice_between_node_types_must_allow_none(modules: Any) -> None:
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    either = modules.slicer.vtkMRMLSegmentationNode | modules.slicer.vtkMRMLLabelMapVolumeNode
    with pytest.raises(TypeError, match="None"):
        parameterNodeWrapper(type("Parameters", (), {"__annotations__": {"mask": either}}))
