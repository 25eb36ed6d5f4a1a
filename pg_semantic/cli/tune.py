"""``pg-semantic tune``: finds the best settings of searches on judged queries, or what a recall needs."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from pg_semantic import errors, tuning
from pg_semantic.cli import options, output, progress, tune_chunk_size, tune_recall, tune_request, tune_reranker
from pg_semantic.cli.tune_request import TuneRequest
from pg_semantic.index import seeds
from pg_semantic.tuning import ChunkTuningOptions, RerankTuningOptions, Setting, Tuning, TuningOptions

EXAMPLES = options.examples(
    "pg-semantic tune article_semantic --judgements judged.csv",
    "pg-semantic tune article_semantic --judgements judged.csv --measure RR@10 --save",
    "pg-semantic tune article_semantic --judgements judged.csv --match any --match all --depths 50,100,200",
    "pg-semantic tune article_semantic --judgements judged.csv --reranker ./reranker --rerank-depths 10,20,50",
    "pg-semantic tune article_semantic --judgements judged.csv --chunk-sizes 128,256",
    "pg-semantic tune article_semantic --recall 0.95 --save",
)

_SHOWN = 5  # the best settings
_RERANK_DEPTHS = "10,20,50"
_ROWS = 2_000  # of the sample that is encoded for each chunk size
_Matches = Annotated[
    list[str] | None,
    typer.Option(metavar="MATCH", help="Also tune how words match: any, all, phrase or websearch. Repeat it."),
]
_Depths = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Also tune how many rows of each leg are fused: 50,100,200.")
]


_Reranker = Annotated[
    str | None, typer.Option(metavar="NAME", help="Tune how many hits this reranker reorders: a hub name or a folder.")
]
_RerankDepths = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="With --reranker: the depths to try. Default: 10,20,50.")
]
_ChunkSizes = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Tune the tokens per chunk, on a sample of rows: 128,256,512.")
]
_Sample = Annotated[
    int | None,
    typer.Option(help="With --recall: how many queries. With --chunk-sizes: how many rows; 2,000 by default.", min=1),
]
_Seed = Annotated[
    int, typer.Option(help="Seed of the sample, the folds and the tests of significance.", min=0, max=seeds.MOST)
]


def tune(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    judgements: options.MaybeJudgementsPath = None,
    recall: Annotated[float | None, typer.Option(help="Find the ef_search for this recall, such as 0.95.")] = None,
    topics: options.Topics = None,
    split: options.TrainSplit = None,
    measure: Annotated[str, typer.Option(help="What to raise: nDCG@10, RR@10, R@100, ...")] = "nDCG@10",
    match: _Matches = None,
    depths: _Depths = None,
    reranker: _Reranker = None,
    rerank_depths: _RerankDepths = None,
    chunk_sizes: _ChunkSizes = None,
    folds: Annotated[int, typer.Option(help="Parts for the cross-validation.", min=2)] = 5,
    exact: Annotated[bool, typer.Option("--exact", help="Compute every distance, without the vector index.")] = False,
    sample: _Sample = None,
    save: Annotated[bool, typer.Option("--save", help="Keep what is recommended in the database.")] = False,
    seed: _Seed = 0,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Find the settings that rank best on judged queries, or the ef_search that reaches a recall.

    --judgements: Tunes the fusion of a hybrid search; if asked to, also match and depth, or a reranker or the chunk
    size instead. What is in use stays unless the cross-validated gain is above 0 with 95% confidence: each part of the
    queries is searched with the setting that is best for the others. Held-out queries are left out, others recorded.

    --recall: Compares the vector index with exact searches for the vectors of random chunks, at growing values of
    ef_search, until the whole 95% interval of the recall reaches this share.
    """
    given = _ToTune(measure, match or (), depths, reranker, rerank_depths, chunk_sizes, folds, exact, sample, seed)
    if (judgements is None) == (recall is None):
        raise errors.ConfigurationError("Pass either --judgements FILE or --recall SHARE.")
    given.refuse_ignored(recall=recall is not None)
    qrels = options.split_of(judgements, split, usual="train")
    with options.installed(dsn) as engine:
        if recall is not None:
            tune_recall.run(engine, index, wanted=recall, sample=sample, save=save, json=json)
        elif judgements is not None:
            judged = options.read_judgements(judgements, split=qrels, topics=topics)
            given.run(TuneRequest(engine, index, judged, save, json))


@dataclass(frozen=True, slots=True)
class _ToTune:
    """The options of the command that say what to tune on judgements, and how."""

    measure: str = "nDCG@10"
    matches: Sequence[str] = ()
    depths: str | None = None
    reranker: str | None = None
    rerank_depths: str | None = None
    chunk_sizes: str | None = None
    folds: int = 5
    exact: bool = False
    sample: int | None = None
    seed: int = 0

    def refuse_ignored(self, *, recall: bool) -> None:
        """Raises `errors.ConfigurationError` if an option was given that would be ignored."""
        unused: tuple[str, ...] = ("sample",)
        what = "a fusion or a reranker"
        if recall:
            what, unused = "--recall", tuple(name for name in _NAMES if name != "sample")
        elif self.chunk_sizes is not None:
            what, unused = "--chunk-sizes", ("exact",)
        if given := [_NAMES[name] for name in unused if getattr(self, name) != getattr(_DEFAULT, name)]:
            raise errors.ConfigurationError(f"{', '.join(given)} means nothing for {what}: leave it out.")

    def run(self, request: TuneRequest) -> None:
        """Tunes what was asked for. Raises `errors.ConfigurationError` if that is more than one thing."""
        given = {"--reranker": self.reranker, "--chunk-sizes": self.chunk_sizes}
        asked = [name for name, value in given.items() if value is not None]
        if len(asked) > 1 or (asked and (self.depths is not None or self.matches)):
            raise errors.ConfigurationError(
                f"{asked[0]} is tuned by itself: tune and save --match and --depths first, then run the command again."
            )
        if self.rerank_depths is not None and self.reranker is None:
            raise errors.ConfigurationError("--rerank-depths needs --reranker NAME.")
        if self.reranker is not None:
            tune_reranker.run(request, self.reranking, reranker=self.reranker)
        elif self.chunk_sizes is not None:
            tune_chunk_size.run(request, self.chunking)
        else:
            _tune_fusion(request, self.fusion)

    @property
    def reranking(self) -> RerankTuningOptions:
        """How to tune a reranker."""
        depths = options.whole_numbers("--rerank-depths", self.rerank_depths or _RERANK_DEPTHS)
        return RerankTuningOptions(depths, self.measure, folds=self.folds, exact=self.exact, seed=self.seed)

    @property
    def chunking(self) -> ChunkTuningOptions:
        """How to tune the chunk size."""
        sizes = options.whole_numbers("--chunk-sizes", self.chunk_sizes)
        return ChunkTuningOptions(sizes, self.measure, self.sample or _ROWS, folds=self.folds, seed=self.seed)

    @property
    def fusion(self) -> TuningOptions:
        """How to tune the fusion, the depth and the match."""
        depths = options.whole_numbers("--depths", self.depths)
        matches: Sequence[Any] = self.matches  # which are checked there
        return TuningOptions(
            self.measure, depths=depths, matches=matches, folds=self.folds, exact=self.exact, seed=self.seed
        )


_DEFAULT = _ToTune()
_NAMES = {
    "measure": "--measure",
    "matches": "--match",
    "depths": "--depths",
    "reranker": "--reranker",
    "rerank_depths": "--rerank-depths",
    "chunk_sizes": "--chunk-sizes",
    "folds": "--folds",
    "exact": "--exact",
    "sample": "--sample",
    "seed": "--seed",
}


def _tune_fusion(request: TuneRequest, how: TuningOptions) -> None:
    """Tunes the fusion, starting from the options in use, and prints what was found."""
    with request.session() as (session, bound):
        how = dataclasses.replace(how, base=tune_request.in_use(session, bound))
        with progress.queries(len(request.judged), shown=not request.json) as advance:
            found = tuning.tune(session, bound, request.judged, options=how, on_query=advance)
    tune_request.conclude(request, found, partial(_print, found, saved=request.save))


def _print(found: Tuning, *, saved: bool) -> None:
    ordered = sorted(found.means.items(), key=lambda one: -one[1])
    shown = [one for rank, one in enumerate(ordered) if rank < _SHOWN or _role(found, one[0])]
    rows = [(setting.code, mean, mean - found.base_mean, _role(found, setting)) for setting, mean in shown]
    title = f"{found.index}, {found.queries} queries, {found.measure}"
    output.table(("setting", found.measure, "difference", ""), rows, title=title)
    if len(shown) < len(ordered):
        output.say(f"These are {len(shown)} of {len(ordered)} settings; --json has all.")
    tune_request.say_gain(found, base_mean=found.base_mean)
    if found.recommended == found.base:
        output.say("Keep the settings in use: no other is shown to be better on queries that it wasn't chosen by.")
    else:
        output.say("Recommended:")
        output.verbatim(found.recommended.code)
    if saved:
        output.say("Kept in the database: `search.tuned_options(session, ...)` returns it.")


def _role(found: Tuning, setting: Setting) -> str:
    return " ".join(name for name in ("base", "best") if getattr(found, name) == setting)
