"""The training curve, and retrieval on the validation set while training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from eegprompt.core.kinds import KINDS, LEVELS
from eegprompt.reports.charts import Line, line_chart
from eegprompt.reports.contents import Material, RunMaterial
from eegprompt.reports.sections import Section

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["build"]

_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_SIZES = (("wide", 620, 270, 104), ("narrow", 350, 250, 92))


def build(material: Material) -> Section | None:
    """Curves of each run; None if no run has a log."""
    curves = [
        _curves(run)
        for run in material.runs
        if run.training is not None and len(run.training) and "epoch" in run.training
    ]
    if not curves:
        return None
    return Section("training", "Training", {"runs": curves})


def _curves(run: RunMaterial) -> dict[str, Any]:
    log = run.training
    assert log is not None
    log = log.sort_values("epoch").reset_index(drop=True)
    epochs = log["epoch"].to_numpy(dtype=float)
    selected = _selected(run, log)
    objective = str(run.setting("training.objective", ""))
    y_label = "contrastive loss (nats)" if objective == "clip" else f"{objective} loss".strip()
    losses = [
        Line(name, epochs, log[column].to_numpy(dtype=float), css, dash)
        for column, name, css, dash in (
            ("train_loss", "training", "train", ""),
            ("val_loss", "selection", "val", "6 3"),
        )
        if column in log
    ]
    loss = _both(
        losses,
        y_label=y_label,
        title=f"Loss by epoch on training and selection trials; epoch {selected:g} was kept",
        marked_x=selected,
        marked_label=f"kept: {selected:g}",
    )
    panels = []
    for level, names in LEVELS.items():
        lines = [
            Line(
                name,
                epochs,
                log[f"val_top1_{name}"].to_numpy(dtype=float),
                f"level-{level.value}",
                _DASHES[i % len(_DASHES)],
            )
            for i, name in enumerate(n for n in names if f"val_top1_{n}" in log)
        ]
        if lines:
            panels.append(
                (
                    level.value,
                    line_chart(
                        lines,
                        x_label="epoch",
                        y_label="top-1 (%)",
                        title=f"Top-1 retrieval on selection trials by epoch, {level.value} level",
                        unit="proportion",
                        width=350,
                        height=230,
                        marked_x=selected,
                        zero=True,
                        whole=True,
                        label_room=92,
                    ),
                )
            )
    return {
        "label": run.label,
        "loss": loss,
        "panels": panels,
        "n_epochs": len(log),
        "asked": run.setting("training.epochs"),
        "selected": selected,
        "kinds": [k for k in KINDS if f"val_top1_{k}" in log],
    }


def _selected(run: RunMaterial, log: pd.DataFrame) -> float:
    """The epoch that was kept: as recorded in training, else the one of least selection loss."""
    epochs = log["epoch"].to_numpy(dtype=float)
    recorded = (run.provenance.get("train") or {}).get("selected_epoch")
    if isinstance(recorded, (int, float)) and recorded in epochs:
        return float(recorded)
    if "val_loss" in log:
        losses = log["val_loss"].to_numpy(dtype=float)
        if np.isfinite(losses).any():
            return float(epochs[int(np.nanargmin(losses))])
    return float(epochs[-1])


def _both(lines: list[Line], **options: Any) -> Markup:
    """The same chart for wide and for narrow screens; the style sheet shows one of them."""
    charts = [
        line_chart(
            lines,
            x_label="epoch",
            whole=True,
            width=width,
            height=height,
            label_room=room,
            css=css,
            **options,
        )
        for css, width, height, room in _SIZES
    ]
    return Markup("").join(charts)
