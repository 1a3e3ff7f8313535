"""A look at a whole caption set: counts, diversity, near-duplicates, oddities, examples."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eegprompt.captions._image_data import data_url, load_image
from eegprompt.captions.alike import alike_images
from eegprompt.captions.text_quality import is_list, is_refusal, mood_words, wrong_language
from eegprompt.captions.validity import check_table
from eegprompt.core.errors import EegpromptError
from eegprompt.core.kinds import KINDS, LEVELS, Level
from eegprompt.study import Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Review", "example_page", "review_table"]

_MOST_COMPARED = 2000  # distinct texts of a kind among which near-duplicates are sought


@dataclass(frozen=True)
class Review:
    """What a person should know of a caption set.

    Parameters
    ----------
    problems : list of str
        What is wrong, a sentence each.
    remarks : list of str
        What is odd but may be meant.
    kinds : dict
        By kind: `captions`, `distinct`, `words` (their mean number), `vocabulary` (different words)
        and `repeated` (share of captions that are said of more than one image).
    nearest : list of dict
        By kind, the two most alike different captions of different images, among 2,000 evenly
        chosen ones: `kind`, `similarity` (cosine of their three-letter pieces), `one`, `other`.
    """

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)
    nearest: list[dict[str, Any]] = field(default_factory=list)


def review_table(
    table: pd.DataFrame,
    image_ids: Sequence[str],
    *,
    language: str | None = "en",
    count_tokens: Callable[[str], int] | None = None,
    max_tokens: int | None = None,
    files: Mapping[str, str] | None = None,
) -> Review:
    """Look at a caption set.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `image_id`, `kind`, `text`.
    image_ids : sequence of str
        Images that should be captioned.
    language : str or None
        What the captions should be in; None takes any.
    count_tokens, max_tokens
        Of the text encoder that shall embed them, where its limit is to be checked.
    files : mapping of str to str, optional
        Checksum of each image's file: images of equal bytes may have equal captions.
    """
    problems = check_table(table, image_ids)
    remarks: list[str] = []
    alike = alike_images(table, files)
    if alike.sentence():
        (problems if alike.alarming else remarks).append(alike.sentence())
    columns = (table["image_id"], table["kind"], table["text"].fillna(""))
    rows = [
        (str(i), str(k), " ".join(str(t).split()))
        for i, k, t in zip(*(c.tolist() for c in columns))
    ]

    def tell(where: list[str], found: list[tuple[str, str, str]], what: str) -> None:
        if found:
            image_id, kind, text = found[0]
            where.append(
                f"{len(found)} captions {what} (first: {kind} of '{image_id}': {text[:80]!r})"
            )

    tell(problems, [r for r in rows if is_refusal(r[2])], "are refusals")
    if language:
        of_image: dict[str, list[str]] = {}
        for image_id, _, text in rows:
            of_image.setdefault(image_id, []).append(text)
        foreign = [(i, w) for i, ts in of_image.items() if (w := wrong_language(ts, language))]
        if foreign:
            problems.append(
                f"the captions of {len(foreign)} images are not in '{language}' (first: "
                f"'{foreign[0][0]}' {foreign[0][1]})"
            )
    if count_tokens is not None and max_tokens is not None:
        long = {t for t in {r[2] for r in rows if r[2]} if count_tokens(t) > max_tokens}
        tell(problems, [r for r in rows if r[2] in long], f"have more than {max_tokens} tokens")
    low, high = LEVELS[Level.LOW], LEVELS[Level.HIGH]
    tell(remarks, [r for r in rows if r[1] in low and mood_words(r[2])],
         "of the low level hold words of mood")  # fmt: skip
    tell(remarks, [r for r in rows if r[1] in high and is_list(r[2])],
         "of the high level are mere lists")  # fmt: skip
    absent = [kind for kind in KINDS if kind not in {r[1] for r in rows}]
    if absent:
        remarks.append(f"the set has no captions of the kinds {', '.join(absent)}")

    kinds: dict[str, dict[str, Any]] = {}
    nearest: list[dict[str, Any]] = []
    for kind in KINDS:
        texts = [t for _, k, t in rows if k == kind and t]
        if not texts:
            continue
        counts = Counter(t.lower() for t in texts)
        words = " ".join(t.lower() for t in texts).split()
        kinds[kind] = {
            "captions": len(texts),
            "distinct": len(counts),
            "words": round(len(words) / len(texts), 1),
            "vocabulary": len(set(words)),
            "repeated": round(sum(c for c in counts.values() if c > 1) / len(texts), 3),
        }
        starts = Counter(" ".join(t.lower().split()[:4]) for t in texts if len(t.split()) > 4)
        if starts and len(texts) >= 20:
            start, n = starts.most_common(1)[0]
            if n > 0.5 * len(texts):
                remarks.append(f"{n} of {len(texts)} captions {kind} begin with '{start}'")
        said, n = counts.most_common(1)[0]
        if len(texts) >= 20 and n > 0.5 * len(texts):
            remarks.append(f"{n} of {len(texts)} captions {kind} say '{said}'")
        pair = _nearest(sorted(counts))
        if pair is not None:
            nearest.append({"kind": kind, **pair})
    return Review(problems, remarks, kinds, nearest)


def _nearest(texts: list[str]) -> dict[str, Any] | None:
    """The two most alike of different texts."""
    if len(texts) < 2:
        return None
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    step = -(-len(texts) // _MOST_COMPARED)
    texts = texts[::step]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), dtype=np.float32)
    features = vectorizer.fit_transform(texts)
    best = (-1.0, 0, 1)
    for start in range(0, len(texts), 500):
        block = (features[start : start + 500] @ features.T).toarray()
        for row in range(len(block)):
            block[row, : start + row + 1] = -1  # itself, and pairs seen from the other side
        where = int(block.argmax())
        i, j = divmod(where, len(texts))
        best = max(best, (float(block[i, j]), start + i, j))
    similarity, i, j = best
    return {"similarity": round(similarity, 3), "one": texts[i], "other": texts[j]}


def example_page(
    study: Study,
    table: pd.DataFrame,
    name: str,
    n_images: int = 24,
    *,
    review: Review | None = None,
) -> str:
    """A page in HTML of images, evenly spread over the study, with their captions.

    Texts are data: everything is escaped, and the page loads and runs nothing.

    Parameters
    ----------
    study : Study
    table : pandas.DataFrame
        The caption set.
    name : str
        Its name.
    n_images : int, default 24
        How many to show.
    review : Review, optional
        What was found in the set; stands above the examples.
    """
    ids = [str(i) for i in table["image_id"].drop_duplicates()]
    step = len(ids) / min(len(ids), n_images) if ids else 1.0
    chosen = [ids[int(i * step)] for i in range(min(len(ids), n_images))]
    shown = table[table["image_id"].isin(chosen)]
    blocks = []
    for image_id, own in shown.groupby("image_id", sort=False):
        try:
            url = data_url(load_image(study.image_path(str(image_id)), 240))
            image = f'<img src="{url}" alt="">'
        except (EegpromptError, OSError):
            image = '<p class="none">no image</p>'
        order = sorted(
            zip(own["kind"], own["text"]),
            key=lambda pair: list(KINDS).index(pair[0]) if pair[0] in KINDS else len(KINDS),
        )
        lines = "".join(
            f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(t))}</dd>" for k, t in order
        )
        blocks.append(
            f"<section>{image}<div><h2>{html.escape(str(image_id))}</h2><dl>{lines}</dl></div>"
            "</section>"
        )
    title = html.escape(f"Captions '{name}' of {study.name}")
    counted = (
        f"<p>{len(table)} captions of {len(ids)} images; {len(chosen)} images are shown, evenly "
        "spread.</p>"
    )
    found = "" if review is None else _found(review)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1>{counted}{found}<h2>Examples</h2>{''.join(blocks)}</body></html>\n"
    )


_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;color:#222;background:#fff;max-width:64rem;"
    "margin:2rem auto;padding:0 1rem}h1{font-size:1.4rem}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}"
    "section{display:flex;gap:1.25rem;border-top:1px solid #ddd;padding:1rem 0}"
    "section h2{font-size:1rem;margin:0 0 .5rem}img,.none{width:160px;flex:none;align-self:start;"
    "border-radius:4px}.none{color:#777}dl{display:grid;grid-template-columns:8rem 1fr;"
    "gap:.15rem .75rem;margin:0}dt{color:#666}dd{margin:0}table{border-collapse:collapse}"
    "th,td{padding:.2rem .9rem .2rem 0;text-align:right;border-bottom:1px solid #eee}"
    "th{font-weight:600}th:first-child,td:first-child{text-align:left}.bad{color:#a30000}"
    "@media(max-width:34rem){section{display:block}dl{grid-template-columns:1fr}"
    "dd{margin:0 0 .3rem}img{margin-bottom:.5rem}}"
)


def _found(review: Review) -> str:
    """A review as HTML: what is wrong, what is odd, and counts by kind."""
    problems = "".join(f'<li class="bad">{html.escape(p)}</li>' for p in review.problems)
    remarks = "".join(f"<li>{html.escape(r)}</li>" for r in review.remarks)
    verdict = f"<ul>{problems}{remarks}</ul>" if problems or remarks else "<p>In order.</p>"
    columns = ("captions", "distinct", "words", "vocabulary", "repeated")
    head = "".join(f"<th>{c}</th>" for c in ("kind", *columns, "most alike"))
    nearest = {pair["kind"]: pair["similarity"] for pair in review.nearest}
    rows = "".join(
        f"<tr><td>{html.escape(kind)}</td>"
        + "".join(f"<td>{facts[c]}</td>" for c in columns)
        + f"<td>{nearest.get(kind, '–')}</td></tr>"
        for kind, facts in review.kinds.items()
    )
    pairs = "".join(
        f"<li>{html.escape(p['kind'])}: “{html.escape(p['one'])}” and “{html.escape(p['other'])}”</li>"
        for p in sorted(review.nearest, key=lambda p: -p["similarity"])[:5]
    )
    return (
        f"<h2>What was found</h2>{verdict}<table><tr>{head}</tr>{rows}</table>"
        "<p>words: mean length; vocabulary: different words; repeated: share of captions said of "
        "more than one image; most alike: cosine of the three-letter pieces of the two most alike "
        f"different captions.</p><h2>Most alike</h2><ul>{pairs}</ul>"
    )
