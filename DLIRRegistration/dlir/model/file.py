"""One model, one file: safetensors with its specification and card as JSON in the metadata. Never unpickles."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlir import __version__
from dlir.errors import ModelError, shown
from dlir.io.names import require_utf8
from dlir.io.writing import write_bytes
from dlir.model.domain import Domain
from dlir.model.spec import ModelSpec

if TYPE_CHECKING:
    from dlir.model.multistage import MultiStageModel

FORMAT_VERSION = 1
_KEY = "dlir"
_CHECKSUM_KEY = "dlir_sha256"
# A header beyond this is not a model's; refuse before parsing it.
_MAX_HEADER_BYTES = 10_000_000


@dataclass(frozen=True)
class ModelHeader:
    """What a model file says of itself, read without its weights and without torch.

    domain: what it was made for; None in files of a DLIR that did not write it.
    """

    path: Path
    spec: ModelSpec
    card: dict[str, Any]
    code_version: str
    digest: str
    domain: Domain | None = None

    @property
    def between_persons(self) -> bool:
        """Whether it was trained on pairs of different persons; within one, a scanner's positions mean something."""
        training = self.card.get("training")
        config = training.get("config") if isinstance(training, dict) else None
        sources = config.get("sources") if isinstance(config, dict) else None
        return any(isinstance(source, dict) and source.get("pairs") == "inter" for source in sources or [])


def name_of(header: ModelHeader) -> str:
    """What a model is called: by its card, or else as its file."""
    return str(header.card.get("name", header.path.stem))


def read_header(path: Path) -> ModelHeader:
    """The specification and card of a model file. Raises ModelError saying which of its parts is wrong."""
    require_utf8(path, f"model file '{shown(path)}'", ModelError)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
                raise ModelError(f"model file '{path}' is damaged or no model: its header is cut; fetch it again")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(f"cannot read model file '{path}': {error.strerror}; check the path") from None
    except (ValueError, RecursionError):
        raise ModelError(f"model file '{path}' is damaged: its header is not readable; fetch it again") from None
    try:
        metadata = header["__metadata__"]
        text = metadata[_KEY]
        content = json.loads(text)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ModelError(f"'{path}' is no DLIR model: it carries no specification; choose another file") from None
    parsed = _parse(path, content, intact=metadata.get(_CHECKSUM_KEY) == _text_checksum(text))
    try:
        end = max((int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__"), default=0)
    except (KeyError, IndexError, TypeError, ValueError):
        end = -1
    if size != 8 + length + end:
        raise ModelError(f"model file '{path}' is damaged: its weights are not complete; fetch it again")
    return parsed


def _text_checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(path: Path, content: Any, *, intact: bool) -> ModelHeader:
    version = content.get("format") if isinstance(content, dict) else None
    if not isinstance(version, int) or version < 1:
        raise ModelError(f"model file '{path}' is damaged: it states no format version; fetch it again")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"model file '{path}' has format {version}, newer than the {FORMAT_VERSION} of this DLIR; update DLIR"
        )
    if not intact:
        raise ModelError(f"model file '{path}' is damaged: its specification has changed; fetch it again")
    try:
        spec = ModelSpec.from_dict(content["spec"])
        card, code, digest = dict(content["card"]), str(content["code_version"]), str(content["sha256"])
        domain = None if content.get("domain") is None else Domain.from_dict(content["domain"])
        if domain is not None and len(domain.stages) != len(spec.stages):
            raise ModelError(f"its domain has {len(domain.stages)} stages and its specification {len(spec.stages)}")
    except (KeyError, TypeError, ValueError, ModelError) as error:
        raise ModelError(f"model file '{path}' is damaged: {error}; fetch it again") from None
    return ModelHeader(path, spec, card, code, digest, domain)


def _digest(weights: dict[str, Any]) -> str:
    """SHA-256 of every weight's name and bytes; types and shapes follow from the specification."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_model(path: Path, model: MultiStageModel, card: dict[str, Any], domain: Domain | None = None) -> None:
    """Write the model, its card and its domain, whole or not at all. Raises OutputError."""
    from safetensors.torch import save

    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    content = {
        "format": FORMAT_VERSION,
        "code_version": __version__,
        "spec": model.spec.to_dict(),
        "card": card,
        "domain": domain and domain.to_dict(),
        "sha256": _digest(weights),
    }
    text = json.dumps(content)
    metadata = {_KEY: text, _CHECKSUM_KEY: _text_checksum(text)}
    write_bytes(path, _with_sorted_metadata(save(weights, metadata)))


def _with_sorted_metadata(file: bytes) -> bytes:
    """The same safetensors file with its metadata in the order of their keys.

    The library writes them in an order drawn at random, so that one model would be two files byte for byte.
    """
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the weights stay aligned
    return len(text).to_bytes(8, "little") + text + file[8 + length :]


def rewrite_card(path: Path, card: dict[str, Any]) -> None:
    """Give a model file another card; weights, their digest and domain stay. Raises ModelError, OutputError."""
    model, header = load_model(path)
    save_model(path, model, card, header.domain)


def load_model(path: Path) -> tuple[MultiStageModel, ModelHeader]:
    """The model on the CPU, ready to predict. Raises ModelError for any damage or mismatch."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from dlir.model.multistage import MultiStageModel

    header = read_header(path)
    try:
        weights = load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"model file '{path}' is damaged: {' '.join(str(error).split())}; fetch it again") from None
    if _digest(weights) != header.digest:
        raise ModelError(f"model file '{path}' is damaged: its weights do not match their checksum; fetch it again")
    with torch.device("meta"):  # nothing is allocated or drawn at random for weights that come from the file
        model = MultiStageModel(header.spec)
    expected = {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}
    if {name: (value.shape, value.dtype) for name, value in weights.items()} != expected:
        raise ModelError(f"model file '{path}': its weights do not match its specification; fetch it again")
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False).eval().to(memory_format=torch.channels_last_3d), header  # type: ignore[call-overload]
