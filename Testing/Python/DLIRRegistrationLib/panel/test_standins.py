"""The stand-ins are as strict as PythonQt and Slicer are."""

from __future__ import annotations

import gc
import sys
import weakref
from enum import Enum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import pytest

if TYPE_CHECKING:
    from mrml import MRML


@pytest.fixture
def modules(qt_application: Any, scene: MRML) -> Any:
    """`qt`, `ctk` and `slicer`."""
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
    assert set(heard) == {None}, "a new scene is told, though nothing was chosen before"
    heard.clear()
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


# -- slicer.parameterNodeWrapper, as in Base/Python/slicer/parameterNodeWrapper ------------------------------------


@pytest.fixture
def wrap(modules: Any, scene: MRML) -> Any:
    """Makes a wrapper of a parameter node, by default a new one, with parameters of all kinds that the panel has."""
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

    class Side(Enum):
        LEFT = "l"
        RIGHT = "r"

        def label(self) -> str:
            return f"on the {self.name.lower()}"

    slicer = modules.slicer
    kinds = {
        "count": Annotated[int, WithinRange(0, 9)],
        "share": Annotated[float, WithinRange(0, 1)],
        "name": str,
        "wanted": bool,
        "side": Side,
        "part": slicer.vtkMRMLScalarVolumeNode,
        "mask": slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLLabelMapVolumeNode | None,
        "drawn": list[slicer.vtkMRMLSegmentationNode],
    }
    kind = parameterNodeWrapper(type("Parameters", (), {"__annotations__": kinds, "count": 3}))
    return lambda node=None: kind(node or scene.add("ScriptedModule", "parameters"))


def _gui(modules: Any, **named: tuple[Any, str]) -> Any:
    """Widgets, each with the parameter that it is for, as `slicer.util.childWidgetVariables` gives them."""
    for widget, parameter in named.values():
        widget.setProperty("SlicerParameterName", parameter)
    return SimpleNamespace(**{name: widget for name, (widget, _) in named.items()})


def _events(node: Any) -> list[str]:
    heard: list[str] = []
    node.AddObserver("ModifiedEvent", lambda caller, event: heard.append(event))
    return heard


def test_the_decorator_gives_back_the_class_itself(modules: Any) -> None:
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    kind = type("Parameters", (), {"__annotations__": {"count": int}})
    assert parameterNodeWrapper(kind) is kind
    with pytest.raises(ValueError, match="StartModify"):
        parameterNodeWrapper(type("Other", (), {"__annotations__": {"StartModify": int}}))


def test_values_lie_in_the_node_as_in_saved_scenes(wrap: Any, scene: MRML) -> None:
    parameters = wrap()
    node = parameters.parameterNode
    first, second = scene.add("Segmentation", "first"), scene.add("Segmentation", "second")
    parameters.wanted, parameters.share, parameters.side = True, 0.5, type(parameters.side).RIGHT
    parameters.mask, parameters.drawn = scene.add("LabelMapVolume", "mask"), [first, second]
    assert [node.GetParameter(name) for name in ("wanted", "share", "side", "count")] == ["True", "0.5", "RIGHT", "3"]
    assert (node.GetNodeReference("mask.0"), node.GetNodeReference("mask.1")) == (None, parameters.mask)
    assert node.GetParameter("drawn.len") == "2"
    assert [node.GetNodeReference(f"drawn.{number}") for number in range(2)] == [first, second]
    parameters.drawn, parameters.mask = [second], None
    assert node.GetParameter("drawn.len") == "1"
    assert node.GetNodeReference("drawn.1") is None
    assert "mask.2" in node.GetParameterNames()
    assert "mask.1" not in node.GetParameterNames()


def test_nothing_but_a_node_can_be_none_and_an_int_is_a_float(wrap: Any) -> None:
    parameters = wrap()
    for name in ("count", "share", "name", "wanted"):
        with pytest.raises(ValueError, match=r"."):
            setattr(parameters, name, None)
    parameters.share = 1
    assert parameters.share == 1.0
    with pytest.raises(TypeError):
        parameters.count = 2.0


def test_a_list_is_no_list_that_could_be_added_to(wrap: Any, scene: MRML) -> None:
    parameters = wrap()
    drawn = scene.add("Segmentation", "drawn")
    parameters.drawn.append(drawn)
    assert parameters.drawn == [drawn], "and changing it changes the node"
    assert not isinstance(parameters.drawn, list)
    with pytest.raises(NotImplementedError):
        parameters.drawn.__add__([drawn])


def test_a_value_is_remembered_until_the_node_has_been_modified(wrap: Any, scene: MRML) -> None:
    parameters = wrap()
    node, other = parameters.parameterNode, wrap(parameters.parameterNode)
    was = node.StartModify()
    other.count = 7
    assert (other.count, parameters.count) == (7, 3), "whoever writes reads it at once, others later"
    node.EndModify(was)
    assert parameters.count == 7


def test_a_node_that_has_left_the_scene_is_no_value_any_more(wrap: Any, scene: MRML) -> None:
    parameters, part = wrap(), scene.add("ScalarVolume", "part")
    parameters.part = part
    scene.scene.RemoveNode(part)
    assert parameters.part is None


def test_writing_a_value_is_one_modification(wrap: Any, scene: MRML) -> None:
    parameters = wrap()
    heard = _events(parameters.parameterNode)
    parameters.drawn = [scene.add("Segmentation", "drawn")]
    assert len(heard) == 1
    parameters.count = 3
    assert len(heard) == 1, "the same value is none"


def test_each_parameter_observes_the_node_until_the_wrapper_is_gone(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = wrap().parameterNode
    tags: set[int] = set()
    add, remove = node.AddObserver, node.RemoveObserver

    def added(*arguments: Any) -> Any:
        tag = add(*arguments)
        tags.add(tag)
        return tag

    monkeypatch.setattr(node, "AddObserver", added, raising=False)
    monkeypatch.setattr(node, "RemoveObserver", lambda tag: (tags.discard(tag), remove(tag)), raising=False)
    parameters = wrap(node)
    assert len(tags) == len(parameters.allParameters) == 8
    del parameters
    gc.collect()
    assert not tags


def test_a_connected_wrapper_lives_until_it_is_disconnected(wrap: Any, modules: Any) -> None:
    gui, node = _gui(modules, box=(modules.qt.QCheckBox(), "wanted")), wrap().parameterNode
    parameters = wrap(node)
    tag, reference = parameters.connectGui(gui), weakref.ref(parameters)
    del parameters
    gc.collect()
    gui.box.checked = True
    assert wrap(node).wanted, "and does its work"
    reference().disconnectGui(tag)
    gc.collect()
    assert reference() is None
    gui.box.checked = False
    assert wrap(node).wanted


def test_connecting_again_connects_twice(wrap: Any, modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing keeps a module from doing so: only the tags that `connectGui` gives tell the connections apart."""
    gui, parameters = _gui(modules, box=(modules.qt.QCheckBox(), "wanted")), wrap()
    first, second = parameters.connectGui(gui), parameters.connectGui(gui)
    assert first != second
    written: list[Any] = []
    monkeypatch.setattr(parameters, "setValue", lambda name, value: written.append(value))
    gui.box.checked = True
    assert written == [True, True]
    parameters.disconnectGui(first)
    parameters.disconnectGui(first)
    gui.box.checked = False
    assert written == [True, True, False]
    parameters.disconnectGui(second)
    gui.box.checked = True
    assert written == [True, True, False]


def test_connecting_shows_the_value_and_sets_up_the_widget(wrap: Any, modules: Any) -> None:
    gui = _gui(
        modules,
        spin=(modules.qt.QSpinBox(), "count"),
        combo=(modules.qt.QComboBox(), "side"),
        node=(modules.slicer.qMRMLNodeComboBox(), "mask"),
    )
    parameters = wrap()
    parameters.side = type(parameters.side).RIGHT
    parameters.connectGui(gui)
    assert (gui.spin.minimum, gui.spin.maximum, gui.spin.value) == (0, 9, 3)
    assert (gui.combo.count, gui.combo.currentText) == (2, "on the right")
    assert list(gui.node.nodeTypes) == ["vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode"]
    parameters.count = 5
    assert gui.spin.value == 5
    gui.spin.value = 6
    assert parameters.count == 6


def test_a_widget_must_name_a_parameter_and_be_fit_for_it(wrap: Any, modules: Any) -> None:
    with pytest.raises(ValueError, match="typo"):
        wrap().connectGui(_gui(modules, box=(modules.qt.QCheckBox(), "typo")))
    with pytest.raises(RuntimeError):
        wrap().connectGui(_gui(modules, box=(modules.qt.QCheckBox(), "name")))


# -- slicer.ScriptedLoadableModule, slicer.i18n, and the widget that Slicer calls a module by ----------------------


def test_the_module_widget_s_entering_is_told_and_not_set(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class MineWidget:
        def __init__(self, parent: Any) -> None:
            self.parent = parent

        def setup(self) -> None:
            told.append(("setup", self.parent.isEntered))

        def enter(self) -> None:
            told.append(("enter", self.parent.isEntered))

        def exit(self) -> None:
            told.append(("exit", self.parent.isEntered))

    monkeypatch.setitem(sys.modules, "Mine", SimpleNamespace(MineWidget=MineWidget))
    parent = modules.slicer.qSlicerScriptedLoadableModuleWidget()
    with pytest.raises(AttributeError):
        parent.isEntered = True
    parent.setPythonSource("/somewhere/Mine.py")
    former = parent.self()
    parent.setup()
    parent.enter()
    parent.reload()
    parent.exit()
    assert parent.self() is modules.slicer.modules.MineWidget is not former
    assert told == [("setup", False), ("enter", True), ("setup", True), ("exit", False)]


def test_a_module_s_test_is_found_by_its_name(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from slicer.ScriptedLoadableModule import ScriptedLoadableModule

    ran: list[Any] = []

    class MineTest:
        def runTest(self, **kwargs: Any) -> None:  # noqa: N802
            ran.append(kwargs)

    kind = type("Mine", (ScriptedLoadableModule,), {"__module__": "Mine"})
    monkeypatch.setattr(modules.slicer, "selfTests", {}, raising=False)
    monkeypatch.setitem(sys.modules, "Mine", SimpleNamespace(MineTest=MineTest))
    kind(SimpleNamespace(path="/somewhere/Mine.py"))
    modules.slicer.selfTests["Mine"](msec=5, quick=True)
    assert ran == [{"quick": True}]


def test_the_parameter_node_outlives_its_scene_and_keeps_its_mark(modules: Any, scene: MRML) -> None:
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

    logic = type("MineLogic", (ScriptedLoadableModuleLogic,), {})()
    node = logic.getParameterNode()
    node.SetParameter("count", "3")
    scene.scene.Clear(0)
    assert logic.getParameterNode() is node
    assert node.GetAttribute("ModuleName") == "Mine"
    assert node.GetParameter("count") == ""


def test_only_text_can_be_translated(modules: Any) -> None:
    from slicer.i18n import tr, translate

    assert tr("Apply") == translate("context", "Apply") == "Apply"
    with pytest.raises(TypeError):
        tr(None)
