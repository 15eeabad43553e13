"""What a run remembers beside its network and optimizer, and how an epoch moves it on."""

from dataclasses import dataclass, field

from unet_keras.training.phases import Stretch


@dataclass
class RunState:
    """Where a run is.

    Attributes:
        epoch: Epochs done.
        step: Batches seen; the next one's position in the training data.
        phase: Index of the phase that goes on or comes next; all are done where there is none.
        phase_step: Batches seen in that phase.
        phase_score: Best score in that phase, higher is better; None before its first epoch.
        stale_epochs: Epochs since.
        best_score: Best score of the run.
        best_epoch: Epoch that had it, counted from 1.
        history: One row of figures an epoch.
        precision: What is computed in, a policy of Keras; empty before it is decided.
    """

    epoch: int = 0
    step: int = 0
    phase: int = 0
    phase_step: int = 0
    phase_score: float | None = None
    stale_epochs: int = 0
    best_score: float | None = None
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    precision: str = ""

    def advance(
        self, stretch: Stretch, steps: int, figures: dict[str, float], monitor: str | None
    ) -> bool:
        """Take over an epoch that is done.

        Args:
            stretch: The phase it belongs to.
            steps: Its batches.
            figures: What was measured in it, by name.
            monitor: Which of them the best epoch has the greatest of (of losses, the smallest);
                None takes the latest for the best.

        Returns:
            Whether the phase is over: all its steps are done, or its patience is at an end.
        """
        row: dict[str, float] = {"epoch": self.epoch + 1, "phase": self.phase + 1}
        row["learning_rate"] = stretch.rate(self.phase_step)
        self.history.append(row | figures)
        self.epoch += 1
        self.step += steps
        self.phase_step += steps
        score = float(self.epoch)
        if monitor is not None:
            score = -figures[monitor] if monitor.endswith("loss") else figures[monitor]
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_epoch = score, self.epoch
        self.stale_epochs += 1
        if self.phase_score is None or score > self.phase_score:
            self.phase_score, self.stale_epochs = score, 0
        return self._leave_phase(stretch)

    def _leave_phase(self, stretch: Stretch) -> bool:
        tired = 0 < stretch.patience <= self.stale_epochs
        if self.phase_step < stretch.steps and not tired:
            return False
        self.phase += 1
        self.phase_step, self.phase_score, self.stale_epochs = 0, None, 0
        return True
