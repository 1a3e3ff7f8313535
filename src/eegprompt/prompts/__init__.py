"""From retrieved captions to prompts: which heads speak, in which order, within which budget."""

from __future__ import annotations

from eegprompt.prompts.blending import blend, interpolate
from eegprompt.prompts.captions import HeadCaption, Prompt
from eegprompt.prompts.composer import Composer
from eegprompt.prompts.composition import ORDERS, compose
from eegprompt.prompts.selection import Choice, Selection, choose

__all__ = [
    "ORDERS",
    "Choice",
    "Composer",
    "HeadCaption",
    "Prompt",
    "Selection",
    "blend",
    "choose",
    "compose",
    "interpolate",
]
