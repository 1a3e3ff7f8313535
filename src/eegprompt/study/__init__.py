"""One study on disk, whatever recording it came from."""

from eegprompt.study.accounting import Accounting
from eegprompt.study.consistency import DESIGNS, IMAGE_IDENTITIES
from eegprompt.study.study import TRIAL_COLUMNS, Study
from eegprompt.study.writer import StudyWriter

__all__ = ["DESIGNS", "IMAGE_IDENTITIES", "TRIAL_COLUMNS", "Accounting", "Study", "StudyWriter"]
