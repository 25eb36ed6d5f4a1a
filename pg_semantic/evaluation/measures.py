"""Measures of relevance, such as nDCG@10: read from their names, and computed for each query by ir-measures.

A name is written as in ir-measures (https://ir-measur.es): ``nDCG@10``, ``P(rel=2)@5``. With ``judged_only=True``, rows
without a grade are removed from the results first: the condensed lists of Sakai (SIGIR 2007).
"""

import ast
import re
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors

if TYPE_CHECKING:
    import ir_measures

Grades: TypeAlias = Mapping[str, Mapping[str, int]]  # query -> row key -> grade; 0: judged, and not relevant
_Lists: TypeAlias = dict[str, dict[str, int]]  # query -> row -> grade or score

_SUPPORTED = ("AP", "Bpref", "Compat", "Judged", "P", "R", "RR", "Rprec", "Success", "nDCG")
_EXAMPLES = "nDCG@10, RR@10, R@100, AP@100, P@5, Success@5, Judged@10 or nDCG(judged_only=True)@10"
_HIGHEST_GRADE = 10_000  # trec_eval counts the rows of every grade up to the highest one
_LARGEST = 1_000_000  # cutoff
_NAME = re.compile(r"(?P<measure>[A-Za-z]+)(?:\((?P<options>[^()]*)\))?(?:@(?P<cutoff>[0-9]{1,9}))?")
_OPTION = re.compile(r"""\s*(\w+)\s*=\s*(True|False|[0-9.]+|"[^"]*"|'[^']*'|\{[0-9:,\s]*\})\s*(?:,|$)""")


def parse(names: Sequence[str]) -> list["ir_measures.Measure"]:
    """Reads the names of measures.

    Known are AP, Bpref, Compat, Judged, nDCG, P, R, RR, Rprec and Success, and ir-measures' other names for them.
    The gain of nDCG is the grade. For an exponential gain, pass it: ``nDCG(gains={1: 1, 2: 3, 3: 7})@10``.

    Args:
        names: Names such as ``nDCG@10``.

    Returns:
        The measures, in the same order.

    Raises:
        errors.ConfigurationError: A name isn't a measure, or has an unknown option or an invalid value.
        errors.MissingExtra: ir-measures is not installed.
    """
    library = _library()
    return [_parsed(library, name) for name in names]


def cutoff(name: str) -> int:
    """Returns how many results a measure looks at, 0 for all of them."""
    found = _NAME.fullmatch(name)
    return int(found["cutoff"] or 0) if found else 0


def answerable(grades: Grades) -> dict[str, Mapping[str, int]]:
    """Returns the queries that have a relevant row, one of grade 1 or higher.

    On the others no search is better than another: every measure except Judged is 0. TREC leaves such topics out, and
    so should you, or they lower every mean and every difference by the same factor.

    Args:
        grades: For each query, the grade of each judged row.

    Returns:
        These queries, in the same order.
    """
    return {query: graded for query, graded in grades.items() if any(grade >= 1 for grade in graded.values())}


def per_query(names: Sequence[str], grades: Grades, run: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.float64]]:
    """Measures the results of each query.

    A query without results counts 0, but 1 for Judged: none of its results lacks a grade. A query without a relevant
    row counts 0 too, as in trec_eval, but not for Judged. Leave such queries out before: see `answerable`.

    Args:
        names: Names such as ``nDCG@10``.
        grades: For each query, the grade of each judged row, from 0 to 10,000. A lower one counts as 0.
        run: For each query, the keys of the rows found, best first. Queries that aren't in ``grades`` are ignored. A
            key that occurs twice counts once, where it first occurs.

    Returns:
        For each name an array of shape (queries,), in the order of ``grades``. All values are between 0 and 1.

    Raises:
        errors.ConfigurationError: A measure is invalid, or a grade is above 10,000.
        errors.MissingExtra: ir-measures is not installed.
    """
    judged, found = _numbered(grades, run)
    condensed = _condensed(found)
    values = {}
    for name, measure in zip(names, parse(names), strict=True):
        values[name] = np.zeros(len(grades))
        computed = _computed(_plain(measure), judged, condensed if measure.params.get("judged_only") else found)
        values[name][list(computed.keys())] = list(computed.values())
        if measure.NAME == "Judged":
            values[name][[not run.get(query) for query in grades]] = 1.0
    return values


def _library() -> ModuleType:
    try:
        import ir_measures
    except ModuleNotFoundError as error:
        raise errors.MissingExtra(
            "Measures of relevance need an extra: pip install 'pg-semantic-index[evaluate]'."
        ) from error
    return ir_measures


def _provider(library: ModuleType) -> "ir_measures.Provider":
    """Returns the parts of ir-measures that need no other package or program, which could change the results."""
    parts = [library.pytrec_eval, library.msmarco, library.judged, library.compat]
    together: ir_measures.Provider = library.providers.FallbackProvider(parts)
    return together


def _parsed(library: ModuleType, name: str) -> "ir_measures.Measure":
    # The parser of ir-measures uses parts of ast that Python 3.14 removed. Its measures check options by assertions
    # only, and abort the process at a cutoff of 0.
    found = _NAME.fullmatch(name)
    known = library.measures.registry.get(found["measure"]) if found else None
    if not found or known is None or known.NAME not in _SUPPORTED:
        raise errors.ConfigurationError(f"Unknown measure {name!r}. Write {_EXAMPLES}.")
    options = _options(name, found["options"] or "")
    if found["cutoff"]:
        options["cutoff"] = int(found["cutoff"])
    if options.get("dcg") == "exp-log2":
        raise errors.ConfigurationError(
            f"Measure {name!r} has a gain that isn't supported. Pass the gain of each grade instead: "
            "nDCG(gains={1: 1, 2: 3, 3: 7})@10."
        )
    for option, value in options.items():
        info = known.SUPPORTED_PARAMS.get(option)
        if info is None or not info.validate(value) or not _in_range(option, value):
            raise errors.ConfigurationError(f"Measure {name!r} cannot have {option} {value!r}. Write {_EXAMPLES}.")
    measure: ir_measures.Measure = known(**options)
    required = {option for option, info in known.SUPPORTED_PARAMS.items() if info.required}
    if not required <= options.keys():
        raise errors.ConfigurationError(f"Measure {name!r} lacks a cutoff or an option. Write {_EXAMPLES}.")
    return measure


def _options(name: str, text: str) -> dict[str, object]:
    """Reads what is between the parentheses of a name."""
    options: dict[str, object] = {}
    end = 0
    try:
        while end < len(text) and (found := _OPTION.match(text, end)):
            options[found[1]] = ast.literal_eval(found[2])
            end = found.end()
    except (SyntaxError, ValueError):  # such as 1.2.3
        pass
    if end < len(text):
        raise errors.ConfigurationError(f"The options of measure {name!r} are invalid. Write {_EXAMPLES}.")
    return options


def _in_range(option: str, value: object) -> bool:
    if option in {"cutoff", "rel"}:
        return type(value) is int and 1 <= value <= _LARGEST
    if option == "p":
        return isinstance(value, float) and 0 < value < 1
    if option == "gains":
        return isinstance(value, dict) and all(gain <= _HIGHEST_GRADE for gain in value.values())
    return True


def _plain(measure: "ir_measures.Measure") -> "ir_measures.Measure":
    """Returns the measure that gives the same on condensed lists. ir-measures lacks some, such as condensed RR@10."""
    kept = {option: value for option, value in measure.params.items() if option != "judged_only"}
    return type(measure)(**kept)


def _numbered(grades: Grades, run: Mapping[str, Sequence[str]]) -> tuple[_Lists, _Lists]:
    """Returns grades and scores under the positions of queries and rows, so that it doesn't matter what these contain.

    Leaves out queries without grades, which confuse some releases of pytrec_eval. Scores fall with each rank, since
    equal ones would be sorted by name. They are positive, since Compat gives rows that weren't found a score of 0.
    """
    judged: _Lists = {}
    found: _Lists = {}
    for position, (query, graded) in enumerate(grades.items()):
        if graded:
            ids = {key: f"judged{number}" for number, key in enumerate(graded)}
            keys = dict.fromkeys(run.get(query, ()))
            judged[str(position)] = {ids[key]: _grade(grade) for key, grade in graded.items()}
            found[str(position)] = {ids.get(key, f"other{rank}"): len(keys) - rank for rank, key in enumerate(keys)}
    return judged, {query: rows for query, rows in found.items() if rows}


def _grade(grade: int) -> int:
    if grade > _HIGHEST_GRADE:
        raise errors.ConfigurationError(
            f"A row has a grade of {grade}, above {_HIGHEST_GRADE}. Use small grades, such as 0 to 3."
        )
    return max(int(grade), 0)


def _condensed(found: _Lists) -> _Lists:
    return {
        query: {row: score for row, score in rows.items() if row.startswith("judged")} for query, rows in found.items()
    }


def _computed(measure: "ir_measures.Measure", judged: _Lists, found: _Lists) -> dict[int, float]:
    """Returns the values by the position of the query. Those of queries without grades or results can be missing.

    Only one measure at a time: of several, ir-measures computes some nDCG with the gains of another.
    """
    evaluator = _provider(_library()).evaluator([measure], judged)
    return {int(metric.query_id): float(metric.value) for metric in evaluator.iter_calc(found)}
