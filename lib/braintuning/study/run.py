"""One model of a study."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One model: a backbone in a condition of the study, and the participant it was tuned on where there is one."""

    backbone: str
    condition: str
    participant: str | None = None

    @property
    def name(self) -> str:
        """Folder-safe name."""
        return "_".join(part for part in (self.backbone, self.condition, self.participant) if part)
