"""Find a pretrained model by folder or hub name, and say in one sentence why it cannot be had."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import EegpromptError, InputError, ModelLoadError, UnknownNameError

if TYPE_CHECKING:
    import torch

__all__ = ["Source", "choose_device", "fetch", "folder_revision", "load_errors", "locate", "quiet"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_WHOLE = 4 << 20  # files up to this size are hashed whole
_SAMPLE, _N_SAMPLES = 64 << 10, 32  # of larger ones, this many blocks of this size


@dataclass(frozen=True)
class Source:
    """Where a model lies and in which version.

    Parameters
    ----------
    name : str
        As the user gave it.
    folder : pathlib.Path or None
        The folder, where the model is one; None for a hub name.
    revision : str or None
        The commit on the hub, or a key of the folder's content; None where it is not yet known.
    """

    name: str
    folder: Path | None
    revision: str | None


def locate(model: str, what: str, revision: str | None = None) -> Source:
    """Tell a folder from a hub name, without touching the network.

    Raises
    ------
    ModelLoadError
        If `model` looks like a folder that is not there, or like neither.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        if revision is not None:
            raise ModelLoadError(
                f"the {what} '{model}' is a folder, which has no revisions; leave the revision out"
            )
        return Source(model, path, folder_revision(path))
    looks_like_path = model.startswith(("/", ".", "~")) or model.count("/") > 1
    if looks_like_path or path.exists():
        state = "is not a folder" if path.exists() else "does not exist"
        raise ModelLoadError(
            f"the {what} folder {model} {state}; give a folder that holds the model, or its name "
            "on huggingface.co"
        )
    if not _HUB_NAME.fullmatch(model):
        raise ModelLoadError(
            f"'{model}' is neither a folder nor a model name on huggingface.co, which reads "
            f"OWNER/NAME; check the {what}'s name"
        )
    return Source(model, None, revision)


def fetch(source: Source, what: str, patterns: Sequence[str], *, again: bool = False) -> Source:
    """Download what `patterns` name, unless the model is a folder, and pin the revision.

    Without network, what an earlier download left in the cache is used.

    Parameters
    ----------
    source : Source
        From :func:`locate`.
    what : str
        For messages, e.g. ``"generator"``.
    patterns : sequence of str
        Files, with wildcards.
    again : bool, default False
        More files of a model that was fetched already.

    Returns
    -------
    Source
        With folder and revision.

    Raises
    ------
    ModelLoadError
        If the model does not exist, needs a token or an agreement, or cannot be reached.
    """
    if source.folder is not None and not again:
        return source
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    with load_errors(source.name, what), quiet():
        commit = source.revision
        cached = False
        try:
            # One question instead of one per file: it pins the version and fails at once.
            info = huggingface_hub.HfApi().model_info(
                source.name, revision=source.revision, timeout=20
            )
            commit = info.sha
        except HfHubHTTPError:
            raise
        except OfflineModeIsEnabled:
            cached = True
        except Exception as problem:
            if not _is_unreachable(problem):
                raise
            cached = True
        folder = huggingface_hub.snapshot_download(
            source.name, revision=commit, allow_patterns=list(patterns), local_files_only=cached
        )
    return Source(source.name, Path(folder), commit if not cached else Path(folder).name)


def folder_revision(folder: Path) -> str:
    """Key of a folder's content: other weights, other key.

    Small files count whole; of files over 4 MiB the size and 32 evenly spread blocks do, so that
    a model of many gigabytes is keyed at once. Training again changes every block.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        size = path.stat().st_size
        digest.update(f"{relative.as_posix()}\0{size}\0".encode())
        with open(path, "rb") as stream:
            if size <= _WHOLE:
                digest.update(stream.read())
                continue
            for i in range(_N_SAMPLES):
                stream.seek(i * (size - _SAMPLE) // (_N_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE))
    return f"folder-{digest.hexdigest()[:16]}"


def choose_device(device: str = "auto") -> torch.device:
    """The device a name stands for; ``auto`` takes a CUDA GPU where there is one.

    Raises
    ------
    InputError
        If the device is unknown or absent.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise UnknownNameError("device", device, ["auto", "cpu", "cuda", "cuda:0", "mps"])
    try:
        chosen = torch.device(device)
        if kind == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
            raise RuntimeError(f"{torch.cuda.device_count()} CUDA devices are there")
        if kind == "mps" and not torch.backends.mps.is_available():
            raise RuntimeError("MPS is not available")
    except RuntimeError as problem:
        raise InputError(
            f"device '{device}' cannot be used here ({str(problem).splitlines()[0]}); use 'auto' or "
            "'cpu'"
        ) from None
    return chosen


@contextmanager
def quiet(*, diffusion: bool = False) -> Iterator[None]:
    """Keep transformers, huggingface_hub and diffusers from talking while a model is loaded.

    Parameters
    ----------
    diffusion : bool, default False
        Silence the progress bars of diffusers as well, which imports it.
    """
    import logging

    # Their own switches make the loggers first, so that the level is not reset on first use.
    import huggingface_hub.utils as hub
    import transformers.utils.logging as transformers_logging

    names = ("transformers", "diffusers", "huggingface_hub")
    transformers_logging.get_verbosity()
    bars = not hub.are_progress_bars_disabled()
    libraries = [transformers_logging]
    if diffusion:
        import diffusers.utils.logging as diffusers_logging

        diffusers_logging.get_verbosity()
        libraries.append(diffusers_logging)
    shown = [library for library in libraries if library.is_progress_bar_enabled()]
    before = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        if bars:
            hub.disable_progress_bars()
        for library in shown:
            library.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
        if bars:
            hub.enable_progress_bars()
        for library in shown:
            library.enable_progress_bar()


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while problem is not None and id(problem) not in seen:
        seen.add(id(problem))
        yield problem
        problem = problem.__cause__ or problem.__context__


def _is_unreachable(problem: BaseException) -> bool:
    """Whether the network, not the model, is at fault."""
    for link in _chain(problem):
        names = {base.__name__ for base in type(link).__mro__}
        if names & {
            "ConnectError",
            "ConnectTimeout",
            "ReadTimeout",
            "NetworkError",
            "TransportError",
            "ConnectionError",
            "Timeout",
            "TimeoutError",
            "TimeoutException",
            "ProxyError",
            "gaierror",
            "OfflineModeIsEnabled",
            "LocalEntryNotFoundError",
        }:
            return True
    return False


@contextmanager
def load_errors(model: str, what: str) -> Iterator[None]:
    """Turn whatever goes wrong while a model is loaded into one sentence with a remedy.

    Raises
    ------
    ModelLoadError
        Instead of the libraries' own errors; eegprompt's own pass.
    """
    try:
        yield
    except EegpromptError:
        raise
    except Exception as problem:
        raise ModelLoadError(_explain(model, what, problem)) from problem


def _explain(model: str, what: str, problem: BaseException) -> str:
    chain = list(_chain(problem))
    names = {base.__name__ for link in chain for base in type(link).__mro__}
    status = {getattr(getattr(link, "response", None), "status_code", None) for link in chain} - {
        None
    }
    said = f"the {what} '{model}'"
    if "GatedRepoError" in names:
        return (
            f"{said} is gated; agree to its terms on its page on huggingface.co, then log in with "
            "'hf auth login'"
        )
    if "RevisionNotFoundError" in names:
        return f"{said} has no such revision; leave the revision out or give one that exists"
    if "RepositoryNotFoundError" in names or status & {401, 403, 404}:
        return (
            f"{said} is not on huggingface.co, or is private; check the spelling (OWNER/NAME), or "
            "log in with 'hf auth login'"
        )
    if "OutOfMemoryError" in names:
        return f"{said} does not fit into memory; use a smaller model or another device"
    if _is_unreachable(problem):
        return (
            f"{said} is not on this machine and huggingface.co cannot be reached; connect once to "
            "download it, or give a folder that holds it"
        )
    if "ImportError" in names:
        return f"{said} needs a package that is not installed: {_first_line(problem)}"
    return (
        f"{said} cannot be loaded ({type(problem).__name__}: {_first_line(problem)}); check that it "
        "is complete and of the right kind"
    )


def _first_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    text = lines[0] if lines else "no message"
    return text if len(text) <= 200 else text[:197] + "..."


def token_limit(tokenizer: Any, default: int) -> int:
    """A tokenizer's limit, or `default` where it states none (some state 1e30)."""
    limit = getattr(tokenizer, "model_max_length", None)
    return int(limit) if isinstance(limit, int) and 0 < limit < 1_000_000 else default
