"""Quantizes an encoder to int8. The result is a new encoder in its own folder, with a record of its calibration.

Its vectors differ from the original's (cosine of about .98), so it has its own fingerprint. The two are never mixed.
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
from pg_semantic.encoders import prompt_precedence, self_check, tokenization
from pg_semantic.encoders.local import backends, openvino, weights
from pg_semantic.index.known_encoders import Prompts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pg_semantic.settings import Settings

SEED = 0
_COMPARED = 100
_TOOLS = ("nncf", "openvino", "sentence-transformers", "torch", "transformers")


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """What an int8 encoder was calibrated on, and the cosines to the 32-bit vectors. Contains no text."""

    encoder: str
    fingerprint: str  # of the int8 encoder
    texts: int
    texts_sha256: str
    seed: int
    compared_texts: int  # texts outside the calibration, if there were enough
    least_cosine: float
    mean_cosine: float
    tools: dict[str, str]


def quantize(reference: str, target: Path, *, texts: Sequence[str], samples: int, settings: "Settings") -> Calibration:
    """Quantizes an encoder to int8. Takes about a minute for a small encoder and 300 texts.

    Args:
        reference: The encoder to quantize.
        target: A folder that doesn't exist or is empty.
        texts: Texts to calibrate on, and to compare vectors on.
        samples: Maximum number of texts to calibrate on, drawn with a fixed seed.
        settings: Where to find the encoder.

    Raises:
        errors.EncoderError: The folder isn't empty, every text is blank, the encoder is already quantized or has no
            transformer, or its int8 vectors are too far from the 32-bit ones.
        errors.MissingExtra: The extra ``int8`` isn't installed.
        errors.ConfigurationError: A setting requires another back end, precision or device.
    """
    backends.check_int8(settings, has_openvino=backends.has_openvino())
    nncf = _import()
    source = weights.folder(reference, settings.encoder_paths)
    _check(source, target)
    chosen, others = _drawn(texts, samples)
    whole = backends.open_whole(source, reference=reference, dimensions=None, device="cpu")
    used = prompt_precedence.apply(whole, reference, Prompts())
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        made = Path(temporary) / target.name
        _copy(source, made)
        _write_prompts(used, made)
        _write_quantized(nncf, whole, chosen, to=made)
        calibration = _measured(whole, made, reference=reference, texts=(chosen, others), settings=settings)
        record = made / weights.INT8_FOLDER / "calibration.json"
        record.write_text(json.dumps(dataclasses.asdict(calibration), indent=2) + "\n")
        made.replace(target)
    return calibration


def _check(source: Path, target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise errors.EncoderError(f"{target} is not empty: choose an empty or new folder.")
    if weights.is_quantized(source):
        raise errors.EncoderError(f"{source} is already quantized: pass the original encoder.")


def _drawn(texts: Sequence[str], samples: int) -> tuple[list[str], list[str]]:
    """Returns the texts to calibrate on, and others to compare vectors on."""
    known = list(dict.fromkeys(text for text in texts if text.strip()))
    if not known:
        raise errors.EncoderError("There is no text to calibrate on: pass texts that aren't blank.")
    order = [known[place] for place in np.random.default_rng(SEED).permutation(len(known))]
    return order[:samples], order[samples : samples + _COMPARED] or list(self_check.TEXTS)


def _copy(source: Path, target: Path) -> None:
    """Copies the files that the encoder is loaded from, without the same weights in other formats."""
    for file in sorted({file for pattern in weights.NEEDED for file in source.rglob(pattern)}):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def _write_prompts(used: Prompts, folder: Path) -> None:
    """Writes the prompts into the new encoder's files, because the catalog doesn't know this encoder."""
    named = {task: prompt for task, prompt in (("query", used.query), ("document", used.document)) if prompt}
    if not named:
        return
    file = folder / "config_sentence_transformers.json"
    config = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps(config | {"prompts": config.get("prompts", {}) | named}, ensure_ascii=False, indent=2))


def _write_quantized(nncf: Any, whole: "SentenceTransformer", texts: Sequence[str], *, to: Path) -> None:
    """Quantizes the transformers to int8, with 7-bit weights.

    A CPU without VNNI adds two 8-bit products in 16 bits. With 8-bit weights the sum can overflow, so that the same
    fingerprint stands for different vectors. With 7-bit weights it cannot.
    """
    modules = backends.transformers_of(whole)
    if not modules:
        raise errors.EncoderError("The encoder has no transformer: there is nothing to quantize.")
    prompted = [tokenization.prompt(whole, "document") + text for text in texts]
    for number, module in enumerate(modules):
        file = weights.quantized(to, number)
        openvino.convert(module, at=file)
        samples = nncf.Dataset(prompted, openvino.reader(module))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # internal to the tools; the vectors are compared afterwards
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
    cosines = self_check.cosines(encoder.encode_documents(others), self_check.documents(whole, others))
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
        raise errors.MissingExtra("Quantizing needs NNCF: pip install 'pg-semantic-index[int8]'.") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)  # NNCF's own function would silence everyone's handlers
    return nncf
