"""What a script needs to make a split by hand: folds of trial ids."""

from eegprompt.study.split import Fold, Split

__all__ = ["Fold", "Split"]
