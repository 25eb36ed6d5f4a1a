"""Search by meaning, by words or by both: composable `Select` statements, and searchers that take a text query.

Also rows that are alike, as pairs and as groups, clusters of all rows, and the impressions and clicks that searches are
improved with.
"""

from pg_semantic.index.bm25_expressions import Match
from pg_semantic.search.clusters import Cluster, clusters
from pg_semantic.search.duplicates import Duplicate, duplicates
from pg_semantic.search.fusion import Convex, Fusion, Rrf, hybrid
from pg_semantic.search.impressions import clicks, forget_impressions, impressions, impressions_table, record_click
from pg_semantic.search.interleaving import Drafted, Team, interleave
from pg_semantic.search.legs import Where
from pg_semantic.search.query_plan import Plan, explain
from pg_semantic.search.recall import ClassRecall, RecallReport, recall
from pg_semantic.search.request import Mode, Options
from pg_semantic.search.rerank_and_diversify import Diverse, Rerank
from pg_semantic.search.results import Hit, Passage
from pg_semantic.search.row_groups import Group, groups
from pg_semantic.search.searcher import AsyncSearcher, Searcher
from pg_semantic.search.short_results import exactly
from pg_semantic.search.snippets import Snippet
from pg_semantic.search.statements import exact, knn, lexical
from pg_semantic.search.tuned_options import tuned_options

__all__ = [
    "AsyncSearcher",
    "ClassRecall",
    "Cluster",
    "Convex",
    "Diverse",
    "Drafted",
    "Duplicate",
    "Fusion",
    "Group",
    "Hit",
    "Match",
    "Mode",
    "Options",
    "Passage",
    "Plan",
    "RecallReport",
    "Rerank",
    "Rrf",
    "Searcher",
    "Snippet",
    "Team",
    "Where",
    "clicks",
    "clusters",
    "duplicates",
    "exact",
    "exactly",
    "explain",
    "forget_impressions",
    "groups",
    "hybrid",
    "impressions",
    "impressions_table",
    "interleave",
    "knn",
    "lexical",
    "recall",
    "record_click",
    "tuned_options",
]
