"""What scores are called and what they say, and how numbers are written."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

__all__ = [
    "GLOSSARY",
    "Metric",
    "describe",
    "fixed",
    "interval",
    "number",
    "p_value",
    "plural",
    "spelled",
]

NBSP = "\u00a0"
DASH = "–"


@dataclass(frozen=True)
class Metric:
    """What one score is called and says.

    Parameters
    ----------
    key : str
        Family of the score, e.g. ``"two_way"``; what sections select by.
    label : str
        Its name in a table.
    says : str
        One sentence for someone who has not met it.
    group : str
        ``"category"``, ``"caption"``, ``"image"`` or ``"other"``.
    symbol : str
        Name of the quantity on an axis, with its unit.
    """

    key: str
    label: str
    says: str
    group: str
    symbol: str

    @property
    def scale(self) -> str:
        """Its direction, range and chance; empty for a score that is not known here."""
        return SCALES.get(self.key, "")


# The first pattern that is found in the lower-case name (with '_' for '-' and blanks) decides.
_METRICS: tuple[tuple[str, Metric], ...] = tuple(
    (pattern, Metric(key, label, says, group, symbol))
    for pattern, key, label, says, group, symbol in (
        (
            r"retrieval_class|caption_class",
            "retrieval_class",
            "Category of the nearest caption",
            "How often the caption nearest to the EEG belongs to the right category; a caption that "
            "fits several categories counts in part.",
            "category",
            "trials right",
        ),
        (
            r"(accuracy|acc)\w*lda|lda\w*(accuracy|acc)",
            "lda",
            "Category, by a linear baseline (shrinkage LDA)",
            "A linear classifier on the EEG itself, on the same trials: not part of the decoder, but "
            "what it must be held against.",
            "category",
            "trials right",
        ),
        (
            r"auc\w*lda|lda\w*auc",
            "lda",
            "A linear baseline (shrinkage LDA), AUC",
            "A linear classifier on the EEG itself, on the same trials: not part of the decoder, but "
            "what it must be held against.",
            "category",
            "AUC",
        ),
        (
            r"auc",
            "auc",
            "Telling the categories apart (AUC)",
            "The chance that a trial of one category gets a higher score for it than a trial of "
            "another category; 0.5 is guessing.",
            "category",
            "AUC",
        ),
        (
            r"two_way|2_way|identification",
            "two_way",
            "Two-way identification",
            "How often a generated image resembles its own reference more than another reference, "
            "by {features}; half of the time is guessing.",
            "image",
            "comparisons won",
        ),
        (
            r"(class|category)_accuracy_macro|macro",
            "class_macro",
            "Category, averaged over categories",
            "As before, but every category counts the same however many trials it has.",
            "category",
            "trials right",
        ),
        (
            r"weighted",
            "class_weighted",
            "Category, heads weighted by validation",
            "As the category by all heads together, with heads that did better on validation trials "
            "counting more.",
            "category",
            "trials right",
        ),
        (
            r"dataset_way",
            "generation_class",
            "True category of the generated image",
            "How often a classifier, choosing among the data set's categories, names the true one for "
            "the generated image.",
            "image",
            "images right",
        ),
        (
            r"way.*(accuracy|top)|generation_accuracy",
            "generation_accuracy",
            "What a classifier sees in the generated image",
            "How often a classifier names the same thing in the generated image as in the reference.",
            "image",
            "images right",
        ),
        (
            r"majority",
            "class_vote",
            "Category, by majority vote of the heads",
            "How often the category that most heads name is the right one.",
            "category",
            "trials right",
        ),
        (
            r"(class|category|object).*(accuracy|acc\b|top_?1)|accuracy.*(class|category)",
            "class_accuracy",
            "Category, by all heads together",
            "How often the category of the highest probability, averaged over heads, is the right one.",
            "category",
            "trials right",
        ),
        *(
            (
                f"image_retrieval_top{k}",
                f"image_retrieval_top{k}",
                f"Which image, by all heads together, top {k}",
                "How often the image seen is "
                + ("the first" if k == 1 else f"among the first {k}")
                + " of the test images, when all heads' captions speak together.",
                "caption",
                "trials right",
            )
            for k in (1, 5)
        ),
        (
            r"(retrieval|caption).*top_?1\b|(retrieval|caption).*top_?1_",
            "retrieval_top1",
            "Caption retrieval, top 1",
            "How often the caption nearest to the EEG is a right one. Captions of the same image "
            "or of the same meaning all count as right.",
            "caption",
            "trials right",
        ),
        (
            r"(retrieval|caption).*top_?5",
            "retrieval_top5",
            "Caption retrieval, top 5",
            "How often a right caption is among the five nearest to the EEG.",
            "caption",
            "trials right",
        ),
        (
            r"(retrieval|caption).*rank|median_rank",
            "retrieval_rank",
            "Caption retrieval, median rank",
            "Half of the trials have a right caption at this rank or better; 1 is best.",
            "caption",
            "rank",
        ),
        (
            r"retrieval|caption_",
            "retrieval",
            "Caption retrieval",
            "How well the right captions are found from the EEG.",
            "caption",
            "score",
        ),
        (
            r"pix_?corr",
            "pixcorr",
            "Pixel correlation",
            "Pearson correlation of the pixels of image and reference. Unrelated natural "
            "photographs already correlate a little.",
            "image",
            "Pearson r",
        ),
        (
            r"ssim_legacy",
            "ssim_legacy",
            "Structural similarity, legacy form",
            "Structural similarity as older software computed it; runs higher than the standard "
            "form.",
            "image",
            "SSIM",
        ),
        (
            r"ssim",
            "ssim",
            "Structural similarity (SSIM)",
            "Likeness of local brightness, contrast and structure. A plain gray image scores "
            "well above 0, so read it beside the floor.",
            "image",
            "SSIM",
        ),
        (
            r"clip_score",
            "clip_score",
            "Image–caption likeness",
            "A hundred times the cosine of the generated image and the true captions (CLIPScore).",
            "image",
            "score",
        ),
        (
            r"cosine",
            "image_cosine",
            "Image–reference likeness",
            "Cosine of {features} of image and reference.",
            "image",
            "cosine",
        ),
        (
            r"distance|swav|effnet|lpips",
            "image_distance",
            "Feature distance",
            "Distance of {features} of image and reference; lower is better.",
            "image",
            "distance",
        ),
        (
            r"inception_score|\bis\b|^is$",
            "inception_score",
            "Inception score",
            "How varied and how clear-cut the generated images are; it does not ask whether they "
            "are the right ones.",
            "image",
            "score",
        ),
        *(
            (
                pattern,
                "distribution",
                f"Distance of the sets of images ({name})",
                "How far the generated images as a set lie from the references as a set; lower is "
                "better, and it is not 0 between equal sets where images are few.",
                "image",
                "distance",
            )
            for pattern, name in ((r"\bfid\b|^fid", "FID"), (r"\bkid\b|^kid", "KID"))
        ),
        (
            r"feature|alex|conv|layer|image|image",
            "image_other",
            "",
            "",
            "image",
            "score",
        ),
    )
)


# Networks whose features are scored: what a name holds, its label, and what its features are.
_NETWORKS: tuple[tuple[str, str, str], ...] = (
    (r"early", "early features", "features of edges, colors and textures"),
    (r"late", "late features", "features of things"),
    (r"alex_?(?:net)?_?(\d+)", "AlexNet layer {0}", "features of AlexNet’s layer {0}"),
    (r"alex", "AlexNet", "features of AlexNet"),
    (r"inception", "Inception", "features of Inception v3"),
    (r"clip", "CLIP", "CLIP’s image embeddings"),
    (r"eff(?:icient)?_?net", "EfficientNet", "features of EfficientNet"),
    (r"swav", "SwAV", "features of SwAV"),
    (r"lpips", "LPIPS", "LPIPS’s features of several layers"),
)
_OF_FEATURES = {
    "two_way": r"two_way|2_way|identification",
    "image_distance": r"distance",
    "image_cosine": r"(image_)?cosine",
}


def _by_features(found: Metric, name: str) -> Metric:
    """A score of features under the name of its network or layer, so that no two are called alike."""
    for pattern, label, features in _NETWORKS:
        match = re.search(pattern, name)
        if match:
            label, features = label.format(*match.groups()), features.format(*match.groups())
            break
    else:
        layer = " ".join(re.sub(_OF_FEATURES[found.key], " ", name).replace("_", " ").split())
        label, features = layer, f"features of {layer}" if layer else "the features named"
    return replace(
        found,
        label=f"{found.label}, {label}" if label else found.label,
        says=found.says.format(features=features),
    )


def describe(metric: str) -> Metric:
    """What a score of this name is called and says; an unknown name speaks for itself.

    Examples
    --------
    >>> describe("ssim_legacy").key, describe("my_new_score").label
    ('ssim_legacy', 'My new score')
    >>> describe("two_way_alex5").label, describe("effnet_distance").label
    ('Two-way identification, AlexNet layer 5', 'Feature distance, EfficientNet')
    """
    name = re.sub(r"[\s\-]+", "_", metric.strip().lower())
    for pattern, found in _METRICS:
        if re.search(pattern, name):
            if found.key in _OF_FEATURES:
                return _by_features(found, name)
            if found.label:
                ways = re.match(r"(\d+)_?way", name)
                return replace(found, label=f"{found.label}, {ways[1]}-way") if ways else found
            return Metric(found.key, _spoken(metric), found.says, found.group, found.symbol)
    return Metric(name, _spoken(metric), "", "other", "score")


def _spoken(name: str) -> str:
    words = re.sub(r"[_\s]+", " ", name).strip()
    return words[:1].upper() + words[1:]


def is_missing(value: Any) -> bool:
    """Whether a value is None or not a finite number."""
    return value is None or (isinstance(value, (int, float)) and not math.isfinite(value))


def number(value: float | None, unit: str | None = None) -> str:
    """A value as it is read: proportions in percent, counts without decimals.

    Examples
    --------
    >>> number(0.3125, "proportion"), number(0.6812, "AUC"), number(None)
    ('31.2\\xa0%', '0.681', '–')
    """
    if value is None or is_missing(value):
        return DASH
    value = float(value)
    if unit == "proportion":
        digits = 1 if abs(value) < 0.9995 or value > 1 else 0
        return f"{100 * value:.{digits}f}{NBSP}%".replace("-", "−")
    if unit in ("rank", "count"):
        return f"{value:,.1f}".removesuffix(".0").replace("-", "−")
    size = abs(value)
    digits = 3 if size < 10 else 2 if size < 100 else 1
    return f"{value:.{digits}f}".replace("-", "−")


def fixed(value: float | None, digits: int = 2) -> str:
    """A value with so many decimals and a proper minus sign.

    Examples
    --------
    >>> fixed(-0.216), fixed(None)
    ('−0.22', '–')
    """
    return DASH if value is None or is_missing(value) else f"{value:.{digits}f}".replace("-", "−")


def interval(lo: float | None, hi: float | None, unit: str | None = None) -> str:
    """An interval in brackets, the unit only once; empty where there is none.

    Examples
    --------
    >>> interval(0.25, 0.375, "proportion")
    '[25.0, 37.5]'
    """
    if is_missing(lo) or is_missing(hi):
        return ""
    a, b = (number(x, unit).removesuffix(f"{NBSP}%") for x in (lo, hi))
    return f"[{a}, {b}]"


def p_value(p: float | None) -> str:
    """A p value as it is read.

    Examples
    --------
    >>> p_value(0.0004), p_value(0.0123), p_value(1.0), p_value(None)
    ('< 0.001', '0.012', '1', '–')
    """
    if p is None or is_missing(p):
        return DASH
    if p < 0.001:
        return f"<{NBSP}0.001".replace(NBSP, " ")
    if p >= 0.9995:
        return "1"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    Examples
    --------
    >>> plural(1, "fold"), plural(1200, "trial"), plural(2, "category", "categories")
    ('1 fold', '1,200 trials', '2 categories')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


_SMALL = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def spelled(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun, small counts as words.

    Examples
    --------
    >>> spelled(2, "head"), spelled(12, "head")
    ('two heads', '12 heads')
    """
    noun = one if count == 1 else many or one + "s"
    return f"{_SMALL[count] if 0 <= count < len(_SMALL) else format(count, ',')} {noun}"


SOURCES = {
    "gray": "a plain gray image",
    "mean-image": "the mean of the training images",
    "noise": "decoded from noise",
    "shuffled": "decoded from another trial's EEG",
    "predicted-class": "drawn from the decoded category's name",
    "true-class": "drawn from the true category's name",
    "real": "training images in place of drawn ones",
    "reference": "the image that was shown, itself",
    "reference-vae": "the image that was shown, through the generator's own coding and back",
    "wrong-class": "drawn from the captions of an image of another category",
}
"""What prompt sources beyond floor and ceiling are."""

_OF_CATEGORIES = (
    "Higher is better; 0 to 100 %; chance by permutation, about one in the number of categories."
)
SCALES = {
    "retrieval_class": _OF_CATEGORIES,
    "class_accuracy": _OF_CATEGORIES,
    "class_macro": _OF_CATEGORIES,
    "class_weighted": _OF_CATEGORIES,
    "class_vote": _OF_CATEGORIES,
    "generation_class": _OF_CATEGORIES,
    "lda": "Higher is better; 0 to 100 % (AUC: 0 to 1); chance by permutation (AUC: 0.5).",
    "auc": "Higher is better; 0 to 1; chance 0.5.",
    "two_way": "Higher is better; 0 to 100 %; chance 50 %.",
    "generation_accuracy": "Higher is better; 0 to 100 %; chance by permutation.",
    "image_retrieval_top1": "Higher is better; 0 to 100 %; chance one in the images compared.",
    "image_retrieval_top5": "Higher is better; 0 to 100 %; chance five in the images compared.",
    "retrieval_top1": "Higher is better; 0 to 100 %; chance by permutation: a caption that is right "
    "for many images is easier to hit.",
    "retrieval_top5": "Higher is better; 0 to 100 %; chance by permutation.",
    "retrieval_rank": "Lower is better; from 1 to the size of the pool; chance about half of it.",
    "pixcorr": "Higher is better; −1 to 1; chance by permutation, which is not 0.",
    "ssim": "Higher is better; −1 to 1; chance by permutation, which is far above 0.",
    "ssim_legacy": "Higher is better; −1 to 1; chance by permutation, which is far above 0.",
    "clip_score": "Higher is better; 0 to 100; chance by permutation, which is far above 0.",
    "image_cosine": "Higher is better; −1 to 1; chance by permutation, which is far above 0.",
    "image_distance": "Lower is better; from 0 (1 − r: to 2); chance by permutation.",
    "inception_score": "Higher is better; from 1 to the number of classes; no chance level, for any "
    "clear-cut and varied set scores high: read it beside the references' own.",
    "distribution": "Lower is better; FID from 0, KID about 0 for equal sets and sometimes below; no "
    "chance level: read it beside the floor and real images.",
}
"""Direction, range and chance of each family of scores."""

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "Trial",
        "One stretch of EEG around the moment an image was shown. Everything here was decoded from "
        "trials that took no part in training.",
    ),
    (
        "Caption kind, head, level",
        "Ten kinds of caption describe an image, from its main object (low level) over its place "
        "and layout (mid level) to its mood and story (high level). A head is the part of the "
        "decoder that serves one kind.",
    ),
    (
        "Candidate pool",
        "The captions among which a head searches. Prompts for images are made from captions of "
        "training images; retrieval is scored among captions of test images. A larger pool is "
        "harder, so the pool is always named.",
    ),
    (
        "Chance",
        "What comes out when the EEG tells nothing: the same score after the link between trials and "
        "images was shuffled many times. p is the share of shuffles that do at least as well; "
        "Holm p corrects it for the number of scores tested together. Where it says “in class”, "
        "images were shuffled only within their category: what knowing the category alone gives.",
    ),
    (
        "Floor",
        "Images drawn by the same generator from random captions of the pool; for caption scores, "
        "the captions of a random image. A score at the floor means that the EEG added nothing.",
    ),
    (
        "Ceiling",
        "Images drawn from the reference's own captions: the best this generator can do with "
        "words; for caption scores, those captions themselves. Often not 100 %, for words leave "
        "things out.",
    ),
    (
        "Within class",
        "Compared only with other images of the same category. Knowing the category alone cannot "
        "lift such a score, so it shows what was decoded beyond the category.",
    ),
    (
        "Interval",
        "In brackets: 95 % interval from drawing the images again and again with replacement. n "
        "counts images, not trials, where several trials show the same image.",
    ),
    (
        "Similarity and confidence",
        "Similarity is the cosine between the EEG's embedding and a caption's; it is not comparable "
        "between heads. Confidence is made from it on validation trials so that it is, from 0 to 1.",
    ),
    (
        "Reference and reconstruction",
        "The image that was shown, and the one drawn from the EEG through words.",
    ),
)
