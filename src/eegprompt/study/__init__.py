"""One study on disk, whatever recording it came from."""

from eegprompt.study.accounting import Accounting
from eegprompt.study.study import (
    DESIGNS,
    IMAGE_IDENTITIES,
    TRIAL_COLUMNS,
    Study,
    StudyWriter,
)

__all__ = ["DESIGNS", "IMAGE_IDENTITIES", "TRIAL_COLUMNS", "Accounting", "Study", "StudyWriter"]
