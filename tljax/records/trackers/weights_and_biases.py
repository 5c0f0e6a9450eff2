"""`WandB`: runs in Weights & Biases."""

import dataclasses
import importlib.util
import pathlib
import secrets
from collections.abc import Mapping, Sequence

from tljax.types import TrackedRun, Tracking

STEP = 'step'
OFFLINE = ('offline', 'disabled')
MODES = ('online', *OFFLINE)


@dataclasses.dataclass(slots=True, kw_only=True)
class WandB:
    """Sends a run to Weights & Biases, or writes it to the run's folder for `wandb sync`.

    The extra `wandb` installs what it needs. Without a `mode`, `WANDB_MODE` decides. It gets the
    experiment, the metrics, the result and the page, but neither code nor console output. The
    library itself adds the machine's name, its use of memory, and the installed packages.

    Attributes:
        project: of Weights & Biases.
        entity: the user or team that owns the project; none for the user's default.
        mode: online, offline or disabled.
        tags: words to find the run by.
    """

    project: str = 'tljax'
    entity: str | None = None
    mode: str | None = None
    tags: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        lines = [] if self.project.strip() else ['project is empty']
        if self.mode not in (None, *MODES):
            lines.append(f'mode is {self.mode!r}, wanted one of {", ".join(MODES)}')
        return lines

    def obstacle(self) -> str | None:
        """See `types.Tracker`."""
        missing = importlib.util.find_spec('wandb') is None
        return "WandB needs wandb: pip install 'tljax[wandb]'" if missing else None

    def start(self, run: TrackedRun) -> Tracking:
        """See `types.Tracker`."""
        return _Tracking(self, run)


class _Tracking:
    """A run that is open in Weights & Biases."""

    def __init__(self, settings: WandB, run: TrackedRun):
        wandb = importlib.import_module('wandb')

        self.key = run.key or secrets.token_hex(4)
        self._library = wandb
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            mode=settings.mode,  # type: ignore[arg-type]
            tags=list(settings.tags),
            name=run.name,
            id=self.key,
            # Offline, nothing can be asked for: `wandb sync` appends the parts with the same id.
            resume=None if settings.mode in OFFLINE else 'allow',
            config=dict(run.config),
            dir=str(run.workdir),
            settings=wandb.Settings(
                console='off', silent=True, disable_git=True, disable_code=True, save_code=False
            ),
        )
        # A resumed run logs steps again, which `log(step=...)` would drop.
        self._run.define_metric('*', step_metric=STEP)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """See `types.Tracking`."""
        self._run.log({STEP: step, **metrics})

    def conclude(self, summary: Mapping[str, float], files: Sequence[pathlib.Path]) -> None:
        """See `types.Tracking`."""
        self._run.summary.update(dict(summary))
        if not files:
            return
        artifact = self._library.Artifact(f'run-{self.key}', type='run')
        for path in files:
            artifact.add_file(str(path), name=path.name)
        self._run.log_artifact(artifact)

    def close(self, *, complete: bool) -> None:
        """See `types.Tracking`."""
        self._run.finish(exit_code=0 if complete else 1)
