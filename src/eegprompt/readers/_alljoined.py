"""What the layouts of Alljoined have in common: settings, and the categories of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from eegprompt.core.errors import RecordingError
from eegprompt.core.files import read_table
from eegprompt.readers._recordings import CuttingOptions
from eegprompt.readers._trial_files import TrialFileOptions
from eegprompt.readers.base import (
    Import,
    image_rows,
    wanted_images,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["METADATA", "AlljoinedOptions", "categories_beside", "category_table", "images_of"]

METADATA = (
    "experiment_metadata_categories.parquet",
    "experiment_metadata.parquet",
    "stim_order.parquet",
)


class AlljoinedOptions(TrialFileOptions, CuttingOptions):
    """Settings of the reader for Alljoined. What is done to the signal is done to raw recordings only."""

    layout: Literal["preprocessed", "raw", "rows"] | None = Field(
        None, description="which layout, where a folder holds several"
    )
    metadata: Path | None = Field(
        None, description="table of the trials (1.6M); default that beside the trials"
    )
    categories: Path | None = Field(
        None, description="CSV with 'image' (an image's number) and 'category'"
    )
    channels: tuple[str, ...] | None = Field(
        None, description="names of the rows' channels, in order (Alljoined1)"
    )
    tmin: float | None = Field(
        None, description="start of a trial [s]; default -0.2 (raw), -0.05 (rows)"
    )
    tmax: float = Field(1.0, description="end of a trial of a raw recording, included [s]")
    identity: Literal["folder", "name"] | None = Field(
        None,
        description="raw: what says subject, session and block where a file's name and its folder "
        "disagree; default: refuse",
    )
    val: float = Field(0.1, gt=0, lt=0.9, description="training blocks that validate, a fraction")
    seed: int = Field(0, description="draws the blocks that validate")


def categories_beside(root: Path, opts: AlljoinedOptions) -> dict[str, str]:
    """Category of each image by its number, from a table of the user's or of the dataset."""
    if opts.categories is not None:
        return category_table(opts.categories)
    places = [opts.metadata] if opts.metadata else []
    for base in (root.parent / "preprocessed_eeg", root):
        places += [p for m in METADATA[:2] for p in (base / m, *sorted(base.glob(f"sub-*/{m}")))]
    result: dict[str, str] = {}
    for path in places:
        if path.is_file():
            table = read_table(path, error=RecordingError)
            if {"image_path", "category_name"} <= set(table.columns):
                for image, category in zip(table["image_path"], table["category_name"]):
                    number = Path(str(image)).stem
                    if isinstance(category, str) and not number.isdecimal():
                        raise RecordingError(
                            f"{path}: the column 'image_path' holds {str(image)[:60]!r}, whose name is "
                            "no number of an image; get the file from its source again"
                        )
                    if isinstance(category, str):
                        result[str(int(number))] = category
    if not result:
        raise RecordingError(
            f"nothing beside {root} says what category an image is of; name the dataset's "
            f"{METADATA[0]} with 'metadata', or a CSV with 'image' and 'category' with 'categories'"
        )
    return result


def category_table(path: Path) -> dict[str, str]:
    """Category of each image by its number, from a table of the user's."""
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str)
        return {str(int(i)): str(c) for i, c in zip(table["image"], table["category"])}
    except FileNotFoundError:
        raise RecordingError(f"the table of categories {path} does not exist") from None
    except Exception as problem:  # whatever is wrong with a table, it is no such table
        raise RecordingError(
            f"{path} should be a CSV with the columns 'image' (a number) and 'category' "
            f"({type(problem).__name__}: {str(problem)[:80]}); mend it"
        ) from None


def images_of(trials: pd.DataFrame, job: Import[Any, Any]) -> pd.DataFrame:
    """The table of images, with their images and one category each."""
    grouped = trials.groupby("image_id", sort=True)["category"]
    wrong = grouped.nunique()
    if (wrong > 1).any():
        name = str(wrong[wrong > 1].index[0])
        raise RecordingError(f"the image '{name}' is shown under two categories; an image has one")
    images = grouped.first().reset_index()
    return image_rows(images, wanted_images(images["image_id"].tolist(), job.options), job)
