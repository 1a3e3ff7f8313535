"""From retrieved captions to prompts: which heads speak, in which order, within which budget."""

from __future__ import annotations

from eegprompt.prompts.blend import blend, interpolate
from eegprompt.prompts.compose import Composer
from eegprompt.prompts.join import ORDERS, compose
from eegprompt.prompts.prompt import HeadCaption, Prompt, head_captions
from eegprompt.prompts.select import Choice, Selection, choose

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
    "head_captions",
    "interpolate",
]
