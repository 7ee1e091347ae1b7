"""The JSON lists that come with challenge data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dlir.errors import EvaluationError


def read_list(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises EvaluationError where it cannot be read or is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(f"cannot read '{path}': {error.strerror}; check the path") from None
    except ValueError as error:
        raise EvaluationError(f"'{path}' is not valid JSON ({error}); fetch it again") from None
    if not isinstance(content, dict):
        raise EvaluationError(f"'{path}' holds no list of a data set; give the file that came with it")
    return content
