"""A new run as it is asked for, on the command line or in Python: which configuration, and what is changed in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dlir.errors import OptionError
from dlir.training.config import TrainingConfig
from dlir.training.config_file import parse_config, preset_file, presets, read_values, with_initial


@dataclass(frozen=True)
class Requested:
    """What a user says of a configuration.

    config, preset: its file, or its name among those that come with DLIR; neither is needed to continue a model.
    init: name or file of a model that is continued. freeze, add_stages: as `Initial` has them. seed, data, licence:
    instead of the configuration's. max_iterations: at most so many per phase.
    """

    config: Path | None = None
    preset: str | None = None
    init: str | None = None
    freeze: tuple[int, ...] | None = None
    add_stages: int | None = None
    seed: int | None = None
    max_iterations: int | None = None
    data: str | None = None
    licence: str | None = None

    def configuration(self) -> TrainingConfig:
        """The configuration that this makes. Raises OptionError, ConfigError, and ModelError for a model to be
        continued that cannot be used.
        """
        return self._changed(self._read())

    def _read(self) -> TrainingConfig:
        if self.config is not None and self.preset is not None:
            raise OptionError("give either --config or --preset, not both")
        path = self.config if self.config is not None else preset_file(self.preset) if self.preset is not None else None
        values = {} if path is None else read_values(path)
        given = {"model": self.init, "freeze": self.freeze and list(self.freeze), "add_stages": self.add_stages}
        stated = {key: value for key, value in given.items() if value is not None}
        if path is None and self.init is None:
            raise OptionError(
                f"give either --config or --preset ({', '.join(presets()) or 'none comes with this DLIR'}), or a model "
                "to continue by --init"
            )
        name = str(path) if path is not None else f"of model {self.init}"
        return parse_config(with_initial(values, stated, name), name)

    def _changed(self, config: TrainingConfig) -> TrainingConfig:
        changes: dict[str, object] = {} if self.seed is None else {"seed": self.seed}
        if (most := self.max_iterations) is not None:
            capped = [
                stage.model_copy(update={"iterations": min(stage.iterations, most)})
                for stage in (*config.training, *([config.fine_tuning] if config.fine_tuning else []))
            ]
            stages = len(config.training)
            changes |= {"training": capped[:stages], "fine_tuning": capped[stages] if config.fine_tuning else None}
        card = {"data": self.data or config.card.data, "licence": self.licence or config.card.licence}
        return config.model_copy(update={**changes, "card": config.card.model_copy(update=card)})
