"""Makes of an encoder another one that computes in int8: a folder of its own, with a record of its calibration.

Its vectors are others (a cosine of about .98), so it has a fingerprint of its own and is never mixed with the first.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pg_semantic import errors
from pg_semantic.encoders import equivalence, prompts, tokenization
from pg_semantic.encoders.local import backends, openvino, weights
from pg_semantic.index.encoder_catalog import Prompts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pg_semantic.settings import Settings

SEED = 0
_COMPARED = 100
_TOOLS = ("nncf", "openvino", "sentence-transformers", "torch", "transformers")


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """What an int8 encoder was calibrated on, and how near its vectors are to those in 32 bits; no text itself."""

    encoder: str
    fingerprint: str  # of the int8 encoder
    texts: int
    texts_sha256: str
    seed: int
    compared_texts: int  # others than it was calibrated on, where there are any
    least_cosine: float
    mean_cosine: float
    tools: dict[str, str]


def quantize(reference: str, target: Path, *, texts: Sequence[str], samples: int, settings: "Settings") -> Calibration:
    """Writes an int8 encoder into a new folder, calibrated on at most ``samples`` of the texts, drawn by a fixed seed.

    Takes about a minute for a small encoder and 300 texts. Raises `errors.EncoderError` when the folder is not empty,
    or the encoder is quantised already, has no transformer, or does not stand it; `errors.MissingExtra` without the
    ``int8`` extra.
    """
    backends.check_int8(settings, has_openvino=backends.has_openvino())
    nncf = _import()
    source = weights.folder(reference, settings.encoder_paths)
    _check(source, target)
    chosen, others = _drawn(texts, samples)
    whole = backends.open_whole(source, reference=reference, dimensions=None, device="cpu")
    used = prompts.apply(whole, reference, Prompts())
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        made = Path(temporary) / target.name
        _copy(source, made)
        _write_prompts(used, made)
        _write_quantised(nncf, whole, chosen, to=made)
        calibration = _measured(whole, made, reference=reference, texts=(chosen, others), settings=settings)
        record = made / weights.INT8_FOLDER / "calibration.json"
        record.write_text(json.dumps(dataclasses.asdict(calibration), indent=2) + "\n")
        made.replace(target)
    return calibration


def _check(source: Path, target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise errors.EncoderError(f"{target} is not empty: name a folder that is not there yet.")
    if weights.is_quantised(source):
        raise errors.EncoderError(f"{source} is quantised already: name the encoder that it was made of.")


def _drawn(texts: Sequence[str], samples: int) -> tuple[list[str], list[str]]:
    """Texts to calibrate on, and others to compare on."""
    known = list(dict.fromkeys(text for text in texts if text.strip()))
    if not known:
        raise errors.EncoderError("There is no text to calibrate on.")
    order = [known[place] for place in np.random.default_rng(SEED).permutation(len(known))]
    return order[:samples], order[samples : samples + _COMPARED] or list(equivalence.TEXTS)


def _copy(source: Path, target: Path) -> None:
    """Copies what the encoder is loaded from, and no other formats of the same weights."""
    for file in sorted({file for pattern in weights.NEEDED for file in source.rglob(pattern)}):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def _write_prompts(used: Prompts, folder: Path) -> None:
    """Has the new encoder's files name the prompts: the catalog does not know it."""
    named = {task: prompt for task, prompt in (("query", used.query), ("document", used.document)) if prompt}
    if not named:
        return
    file = folder / "config_sentence_transformers.json"
    config = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps(config | {"prompts": config.get("prompts", {}) | named}, ensure_ascii=False, indent=2))


def _write_quantised(nncf: Any, whole: "SentenceTransformer", texts: Sequence[str], *, to: Path) -> None:
    """Writes the transformers in int8, their weights in 7 bits.

    A CPU without VNNI adds two products of 8 bits in 16, which overflow where the weights have 8: its vectors would be
    others under the same fingerprint. With 7 bits they cannot.
    """
    modules = backends.transformers_of(whole)
    if not modules:
        raise errors.EncoderError("The encoder has no transformer: there is nothing to quantise.")
    prompted = [tokenization.prompt(whole, "document") + text for text in texts]
    for number, module in enumerate(modules):
        file = weights.quantised(to, number)
        openvino.convert(module, at=file)
        samples = nncf.Dataset(prompted, openvino.reader(module))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tools among themselves; the vectors are compared afterwards
            smaller = nncf.quantize(
                openvino.read(file),
                samples,
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(prompted),
                advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
            )
        openvino.save(smaller, at=file)


def _measured(
    whole: "SentenceTransformer",
    made: Path,
    *,
    reference: str,
    texts: tuple[list[str], list[str]],
    settings: "Settings",
) -> Calibration:
    chosen, others = texts
    encoder = backends.load(made, reference=reference, dimensions=None, settings=settings, is_new=True)
    cosines = equivalence.cosines(encoder.encode_documents(others), equivalence.documents(whole, others))
    return Calibration(
        encoder=reference,
        fingerprint=encoder.fingerprint,
        texts=len(chosen),
        texts_sha256=hashlib.sha256(json.dumps(chosen).encode()).hexdigest(),
        seed=SEED,
        compared_texts=len(others),
        least_cosine=round(float(cosines.min()), 5),
        mean_cosine=round(float(cosines.mean()), 5),
        tools={name: importlib.metadata.version(name) for name in _TOOLS},
    )


def _import() -> Any:
    try:
        with openvino.without_telemetry("nncf"):
            import nncf
    except ImportError as error:
        raise errors.MissingExtra("Quantising needs NNCF: pip install 'pg-semantic-index[int8]'.") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own function quietens the handlers of everybody
    return nncf
