"""The licence of a model that forbids commercial use: agreed to once, before the first registration with the model."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from DLIRRegistrationLib import models
from DLIRRegistrationLib.panel.parts.dialogs import agreed, can_ask
from DLIRRegistrationLib.panel.parts.status import StatusLine

# Among the user's settings, by the model's name: the licence as it was agreed to.
_KEY = "DLIR/AgreedLicences"


def may_use(model: str, status: StatusLine) -> bool:
    """Whether the user may register with a model: asks for what has not been agreed to yet, and says why not.

    Nothing is asked, and nothing forbidden, where there is nobody to answer: a script has its author for that.
    """
    for licence in models.restricting_licences(model):
        settings, key = slicer.app.userSettings(), f"{_KEY}/{licence.model}"
        if settings.value(key) == licence.text or not can_ask():
            continue
        if not agreed(licence.question(automatic=licence.model != model), _("Licence of a model")):
            text = _("Nothing was registered: the licence of the model '{name}' was not agreed to. Choose another one.")
            status.note(text.format(name=licence.model))
            return False
        settings.setValue(key, licence.text)
    return True
