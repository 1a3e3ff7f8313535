"""What every score is called and says: one entry each, beside its direction, range and chance.

A score's name may hold one placeholder: ``two_way_{features}`` stands for the score on any layer of a
feature network, ``{ways}_way_accuracy`` for any number of ways. A score that has no entry is shown
under its own name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from eegprompt.core.errors import InputError

__all__ = ["METRICS", "Metric", "metric_of", "register_metric"]


@dataclass(frozen=True)
class Metric:
    """One score.

    Parameters
    ----------
    name : str
        As in ``scores.json``, e.g. ``"class_accuracy"``; may hold one placeholder in braces.
    family : str
        Scores that sections of the report select together, e.g. ``"two_way"``.
    label : str
        Its name in a table; may hold the same placeholder.
    says : str
        One sentence for someone who has not met it.
    group : {"category", "caption", "image", "other"}
        What is judged.
    symbol : str
        The quantity on an axis.
    unit : str
        ``proportion`` (shown in percent), ``AUC``, ``r``, ``SSIM``, ``cosine``, ``distance`` or
        ``score``.
    range : str
        Smallest to largest value, in words.
    chance : str
        Its level without information, in words.
    higher_is_better : bool
        Its direction.
    """

    name: str
    family: str
    label: str
    says: str
    group: str
    symbol: str
    unit: str
    range: str
    chance: str
    higher_is_better: bool = True

    @property
    def key(self) -> str:
        """The family, by which sections of the report select."""
        return self.family

    @property
    def scale(self) -> str:
        """Direction, range and chance in one sentence; empty where they are not known."""
        if not self.range:
            return ""
        direction = "Higher" if self.higher_is_better else "Lower"
        return f"{direction} is better; {self.range}; {self.chance}."


_IMAGE_CHANCE = "chance by permutation, which is far above 0"
_CLASS_CHANCE = "chance by permutation, about one in the number of categories"
_LINEAR = (
    "A linear classifier on the EEG itself, on the same trials: not part of the decoder, but what it "
    "must be held against."
)
_AUC_SAYS = (
    "The chance that a trial of one category gets a higher score for it than a trial of another "
    "category; 0.5 is guessing."
)
_SET_CHANCE = "no chance level: read it beside the floor and real images"


def _category(name: str, family: str, label: str, says: str) -> Metric:
    """An accuracy of class decisions."""
    return Metric(
        name,
        family,
        label,
        says,
        "category",
        "trials right",
        "proportion",
        "0 to 100 %",
        _CLASS_CHANCE,
    )


def _among(name: str, family: str, label: str, says: str, chance: str) -> Metric:
    """How often the right caption or image is among the first."""
    return Metric(
        name, family, label, says, "caption", "trials right", "proportion", "0 to 100 %", chance
    )


def _image(
    name: str,
    family: str,
    label: str,
    says: str,
    symbol: str,
    unit: str,
    *,
    range_: str,
    chance: str,
    higher: bool = True,
) -> Metric:
    """A score of generated images."""
    return Metric(name, family, label, says, "image", symbol, unit, range_, chance, higher)


_OF_FEATURES = "Distance of the features of image and reference; lower is better."

METRICS: dict[str, Metric] = {}
"""Every score, by name."""


def register_metric(metric: Metric) -> Metric:
    """Add a score, so that tables and the report know it.

    Raises
    ------
    InputError
        If another score has the name.
    """
    if METRICS.get(metric.name, metric) != metric:
        raise InputError(f"the metric '{metric.name}' exists already")
    METRICS[metric.name] = metric
    return metric


for _metric in (
    _category(
        "caption_retrieval_class_top1",
        "retrieval_class",
        "Category of the nearest caption",
        "How often the caption nearest to the EEG belongs to the right category; a caption that fits "
        "several categories counts in part.",
    ),
    _category(
        "class_accuracy",
        "class_accuracy",
        "Category, by all heads together",
        "How often the category of the highest probability, averaged over heads, is the right one.",
    ),
    _category(
        "class_accuracy_macro",
        "class_macro",
        "Category, averaged over categories",
        "As before, but every category counts the same however many trials it has.",
    ),
    _category(
        "class_accuracy_weighted",
        "class_weighted",
        "Category, heads weighted by validation",
        "As the category by all heads together, with heads that did better on validation trials "
        "counting more.",
    ),
    _category(
        "class_accuracy_majority",
        "class_vote",
        "Category, by majority vote of the heads",
        "How often the category that most heads name is the right one.",
    ),
    _category(
        "class_accuracy_lda", "lda", "Category, by a linear baseline (shrinkage LDA)", _LINEAR
    ),
    Metric(
        "class_auc",
        "auc",
        "Telling the categories apart (AUC)",
        _AUC_SAYS,
        "category",
        "AUC",
        "AUC",
        "0 to 1",
        "chance 0.5",
    ),
    Metric(
        "class_auc_lda",
        "lda",
        "A linear baseline (shrinkage LDA), AUC",
        _LINEAR,
        "category",
        "AUC",
        "AUC",
        "0 to 1",
        "chance 0.5",
    ),
    _among(
        "caption_retrieval_top1",
        "retrieval_top1",
        "Caption retrieval, top 1",
        "How often the caption nearest to the EEG is a right one. Captions of the same image or of the "
        "same meaning all count as right.",
        "chance by permutation: a caption that is right for many images is easier to hit",
    ),
    _among(
        "caption_retrieval_top5",
        "retrieval_top5",
        "Caption retrieval, top 5",
        "How often a right caption is among the five nearest to the EEG.",
        "chance by permutation",
    ),
    _among(
        "image_retrieval_top1",
        "image_retrieval_top1",
        "Which image, by all heads together, top 1",
        "How often the image seen is the first of the test images, when the captions of all heads are "
        "taken together.",
        "chance one in the images compared",
    ),
    _among(
        "image_retrieval_top5",
        "image_retrieval_top5",
        "Which image, by all heads together, top 5",
        "How often the image seen is among the first 5 of the test images, when the captions of all "
        "heads are taken together.",
        "chance five in the images compared",
    ),
    _image(
        "two_way_{features}",
        "two_way",
        "Two-way identification, {features}",
        "How often a generated image resembles its own reference more than another reference, by "
        "{features}; half of the time is guessing.",
        "comparisons won",
        "proportion",
        range_="0 to 100 %",
        chance="chance 50 %",
    ),
    _image(
        "{features}_distance",
        "image_distance",
        "Feature distance, {features}",
        _OF_FEATURES,
        "distance",
        "distance",
        range_="from 0 (1 − r: to 2)",
        chance="chance by permutation",
        higher=False,
    ),
    _image(
        "lpips",
        "image_distance",
        "Feature distance, LPIPS",
        _OF_FEATURES,
        "distance",
        "distance",
        range_="from 0",
        chance="chance by permutation",
        higher=False,
    ),
    _image(
        "{features}_image_cosine",
        "image_cosine",
        "Image–reference likeness, {features}",
        "Cosine of the features of image and reference.",
        "cosine",
        "cosine",
        range_="−1 to 1",
        chance=_IMAGE_CHANCE,
    ),
    _image(
        "{ways}_way_accuracy",
        "generation_accuracy",
        "What a classifier sees in the generated image, {ways}-way",
        "How often a classifier names the same thing in the generated image as in the reference.",
        "images right",
        "proportion",
        range_="0 to 100 %",
        chance="chance by permutation",
    ),
    Metric(
        "dataset_way_accuracy",
        "generation_class",
        "True category of the generated image",
        "How often a classifier, choosing among the data set's categories, names the true one for the "
        "generated image.",
        "image",
        "images right",
        "proportion",
        "0 to 100 %",
        _CLASS_CHANCE,
    ),
    _image(
        "pixcorr",
        "pixcorr",
        "Pixel correlation",
        "Pearson correlation of the pixels of image and reference. Unrelated natural photographs "
        "already correlate a little.",
        "Pearson r",
        "r",
        range_="−1 to 1",
        chance="chance by permutation, which is not 0",
    ),
    _image(
        "ssim",
        "ssim",
        "Structural similarity (SSIM)",
        "Likeness of local brightness, contrast and structure. A plain gray image scores well above "
        "0, so read it beside the floor.",
        "SSIM",
        "SSIM",
        range_="−1 to 1",
        chance=_IMAGE_CHANCE,
    ),
    _image(
        "ssim_legacy",
        "ssim_legacy",
        "Structural similarity, legacy form",
        "Structural similarity as older software computed it; runs higher than the standard form.",
        "SSIM",
        "SSIM",
        range_="−1 to 1",
        chance=_IMAGE_CHANCE,
    ),
    _image(
        "clip_score",
        "clip_score",
        "Image–caption likeness",
        "A hundred times the cosine of the generated image and the true captions (CLIPScore).",
        "score",
        "score",
        range_="0 to 100",
        chance=_IMAGE_CHANCE,
    ),
    _image(
        "inception_score",
        "inception_score",
        "Inception score",
        "How varied and how clear-cut the generated images are; it does not ask whether they are the "
        "right ones.",
        "score",
        "score",
        range_="from 1 to the number of classes",
        chance="no chance level, for any clear-cut and varied set scores high: read it beside the "
        "references' own",
    ),
    *(
        _image(
            name,
            "distribution",
            f"Distance of the sets of images ({name.upper()})",
            "How far the generated images as a set lie from the references as a set; lower is better, "
            "and it is not 0 between equal sets where images are few.",
            "distance",
            "distance",
            range_=range_,
            chance=_SET_CHANCE,
            higher=False,
        )
        for name, range_ in (
            ("fid", "from 0"),
            ("kid", "about 0 for equal sets and sometimes below"),
        )
    ),
):
    register_metric(_metric)


# What is put for {features}: the layer in a score's name, its label, and what its features are.
_NETWORKS = {
    "early": ("early features", "features of edges, colors and textures"),
    "late": ("late features", "features of things"),
    "inception": ("Inception", "features of Inception v3"),
    "clip": ("CLIP", "CLIP’s image embeddings"),
    "effnet": ("EfficientNet", "features of EfficientNet"),
    "swav": ("SwAV", "features of SwAV"),
    "lpips": ("LPIPS", "LPIPS’s features of several layers"),
}


def _filled(metric: Metric, field: str, given: str) -> Metric:
    """An entry with its placeholder filled in."""
    label, says = given, given
    if field == "features":
        alex = re.fullmatch(r"alex(?:net)?_?(\d*)", given)
        if alex:
            label = f"AlexNet layer {alex[1]}" if alex[1] else "AlexNet"
            says = f"features of {'AlexNet’s layer ' + alex[1] if alex[1] else 'AlexNet'}"
        else:
            words = given.replace("_", " ")
            label, says = _NETWORKS.get(given, (words, f"features of {words}"))
    hole = "{" + field + "}"
    return replace(
        metric, label=metric.label.replace(hole, label), says=metric.says.replace(hole, says)
    )


def metric_of(name: str) -> Metric:
    """The entry of a score; one that has none is shown under its own name.

    Parameters
    ----------
    name : str
        As in ``scores.json``.

    Examples
    --------
    >>> metric_of("ssim_legacy").family, metric_of("my_new_score").label
    ('ssim_legacy', 'My new score')
    >>> metric_of("two_way_alex5").label, metric_of("effnet_distance").label
    ('Two-way identification, AlexNet layer 5', 'Feature distance, EfficientNet')
    """
    if name in METRICS:
        return METRICS[name]
    for entry in METRICS.values():
        found = re.search(r"\{(\w+)\}", entry.name)
        if found is None:
            continue
        before, after = entry.name[: found.start()], entry.name[found.end() :]
        inside = re.fullmatch(re.escape(before) + r"(\w+)" + re.escape(after), name)
        if inside:
            return _filled(entry, found[1], inside[1])
    words = re.sub(r"[_\s]+", " ", name).strip()
    return Metric(name, name, words[:1].upper() + words[1:], "", "other", "score", "", "", "")
