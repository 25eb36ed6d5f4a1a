"""Creates the schema ``semantic``: each table, view and function in a file of its own, in ``0001_baseline/``."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

FOLDER = Path(__file__).parent / "0001_baseline"

# In this order, because each file may use the objects of those before it.
FILES = (
    "tables/encoder.sql",
    "tables/semantic_index.sql",
    "tables/generation.sql",
    "tables/job.sql",
    "tables/worker.sql",
    "tables/mark.sql",
    "tables/cluster.sql",
    "tables/captured.sql",
    "tables/problem.sql",
    "tables/lexicon.sql",
    "tables/term.sql",
    "tables/query_vector.sql",
    "tables/query_request.sql",
    "tables/evaluation.sql",
    "tables/tuned_options.sql",
    "tables/judged_table.sql",
    "tables/judged_query.sql",
    "functions/judgements/judged_table_v1.sql",
    "functions/judgements/record_judged_table_v1.sql",
    "functions/judgements/copy_judged_queries_v1.sql",
    "functions/judgements/held_out_queries_v1.sql",
    "tables/recall.sql",
    "tables/recall_sample.sql",
    "tables/basis.sql",
    "tables/vector_index_build.sql",
    "tables/token_usage.sql",
    "functions/row_level_security/sees_all_rows_v1.sql",
    "functions/capture/partition_tree_v1.sql",
    "functions/capture/missing_triggers_v1.sql",
    "functions/capture/create_triggers_v1.sql",
    "functions/source/base_type_v1.sql",
    "functions/source/enum_labels_v1.sql",
    "functions/capture/capture_state_v1.sql",
    "functions/capture/was_never_written_v1.sql",
    "functions/capture/restart_backfill_v1.sql",
    "functions/capture/record_capture_state_v1.sql",
    "functions/source/table_by_name_v1.sql",
    "functions/primary_key/is_still_unique_key_v1.sql",
    "functions/source/source_problem_v1.sql",
    "functions/foreign_keys/unsound_foreign_keys_v1.sql",
    "functions/capture/capture_state_changes_v1.sql",
    "functions/foreign_keys/add_foreign_keys_v1.sql",
    "functions/foreign_keys/restore_foreign_keys_v1.sql",
    "functions/foreign_keys/validate_foreign_key_v1.sql",
    "functions/capture/capture_problem_v1.sql",
    "functions/capture/virtual_column_expressions_v1.sql",
    "functions/capture/is_capture_function_outdated_v1.sql",
    "functions/capture/detect_changes_past_capture_v1.sql",
    "functions/cluster/system_identifier_v1.sql",
    "functions/cluster/incoming_subscriptions_v1.sql",
    "functions/cluster/adopt_cluster_v1.sql",
    "functions/status/truncated_rows_v1.sql",
    "functions/status/tables_v1.sql",
    "functions/status/rows_estimate_parts_v1.sql",
    "functions/status/rows_estimate_v1.sql",
    "functions/status/analyzed_rows_estimate_v1.sql",
    "functions/status/size_estimate_v1.sql",
    "functions/status/table_size_v1.sql",
    "functions/status/vector_index_files_v1.sql",
    "functions/status/chunk_counters_v1.sql",
    "functions/status/lacks_index_v1.sql",
    "functions/status/backlog.sql",
    "views/index_status.sql",
    "views/readable_evaluation.sql",
    "views/readable_lexicon.sql",
    "views/readable_term.sql",
    "views/readable_basis.sql",
    "functions/bm25/lexemes_v1.sql",
    "functions/bm25/lexeme_position_v1.sql",
    "functions/bm25/sparsevec_from_text_v1.sql",
    "functions/bm25/bm25_document_weights_v1.sql",
    "functions/primary_key/is_valid_value_v1.sql",
    "functions/primary_key/key_equality_sql_v1.sql",
    "functions/primary_key/key_operators_v1.sql",
    "functions/bm25/term_counts_v1.sql",
    "functions/bm25/bm25_query_weights_v1.sql",
    "functions/privileges/readers_v1.sql",
    "functions/privileges/index_objects_v1.sql",
    "functions/row_level_security/copyable_policies_v1.sql",
    "functions/row_level_security/wanted_policies_v1.sql",
    "functions/row_level_security/fill_policy_column_v1.sql",
    "functions/row_level_security/policy_column_v1.sql",
    "functions/row_level_security/add_policy_column_v1.sql",
    "functions/row_level_security/policy_comment_v1.sql",
    "functions/row_level_security/has_wanted_policies_v1.sql",
    "functions/privileges/role_name_v1.sql",
    "functions/row_level_security/copy_policies_from_source_v1.sql",
    "functions/privileges/wanted_privileges_v1.sql",
    "functions/privileges/privilege_statements_v1.sql",
    "functions/privileges/apply_privileges_v1.sql",
    "functions/privileges/row_visibility_v1.sql",
    "functions/privileges/describe_privileges_v1.sql",
    "functions/registry/create_views_v1.sql",
    "functions/locks/lock_wait_seconds_v1.sql",
    "functions/locks/try_lock_tables_v1.sql",
    "functions/locks/lock_holders_v1.sql",
    "functions/locks/is_index_being_built_v1.sql",
    "functions/locks/lock_tables_v1.sql",
    "functions/locks/relations_in_lock_order_v1.sql",
    "functions/locks/attach_index_v1.sql",
    "functions/generations/delete_orphaned_jobs_v1.sql",
    "functions/generations/delete_generation_v1.sql",
    "functions/generations/delete_generations_without_tables_v1.sql",
    "functions/generations/drop_generation_v1.sql",
    "functions/registry/spec_without_names_v1.sql",
    "functions/source/value_as_text_v1.sql",
    "functions/source/is_text_type_v1.sql",
    "functions/registry/current_spec_v1.sql",
    "functions/source/move_to_source_schema_sql_v1.sql",
    "functions/source/require_text_columns_v1.sql",
    "functions/primary_key/column_type_v1.sql",
    "functions/primary_key/altered_key_columns_v1.sql",
    "functions/primary_key/table_elements_v1.sql",
    "functions/primary_key/copy_partitioned_chunks_v1.sql",
    "functions/source/source_columns_v1.sql",
    "functions/capture/captured_columns_v1.sql",
    "functions/primary_key/old_and_new_key_equality_sql_v1.sql",
    "functions/primary_key/key_text_sql_v1.sql",
    "functions/primary_key/has_canonical_text_v1.sql",
    "functions/primary_key/depends_on_settings_v1.sql",
    "functions/capture/column_text_sql_v1.sql",
    "functions/capture/capture_template_values_v1.sql",
    "functions/capture/statement_trigger_body_v1.sql",
    "functions/capture/insert_marks_sql_v1.sql",
    "functions/capture/row_trigger_body_v1.sql",
    "functions/capture/render_statement_trigger_v1.sql",
    "functions/capture/create_capture_function_v1.sql",
    "functions/capture/create_capture_functions_v1.sql",
    "functions/generations/require_state_v1.sql",
    "functions/generations/begin_generation_v1.sql",
    "functions/generations/rename_table_and_indexes_v1.sql",
    "functions/generations/switch_generation_v1.sql",
    "functions/generations/withdraw_generation_v1.sql",
    "functions/source/require_source_not_replaced_v1.sql",
    "functions/source/require_source_not_renamed_v1.sql",
    "functions/source/move_index_to_table_v1.sql",
    "functions/source/require_move_target_v1.sql",
    "functions/source/release_partition.sql",
    "functions/query_vectors/require_encoder_v1.sql",
    "functions/query_vectors/text_hash_v1.sql",
    "functions/query_vectors/require_query_text_v1.sql",
    "functions/query_vectors/cached_query_vector_v1.sql",
    "functions/query_vectors/request_query_vector_v1.sql",
    "functions/query_vectors/poll_query_vector_v1.sql",
    "functions/query_vectors/require_query_vector_v1.sql",
    "functions/query_vectors/store_query_vectors_v1.sql",
    "functions/query_vectors/embed_query_v1.sql",
    "functions/query_vectors/query_wait_seconds_v1.sql",
    "functions/query_vectors/wait_over_dblink_v1.sql",
    "functions/search/live_generation_v1.sql",
    "functions/query_vectors/embed_v1.sql",
    "functions/query_vectors/embed.sql",
    "functions/query_vectors/embed_query.sql",
    "functions/search/render_template_v1.sql",
    "functions/primary_key/key_column_list_v1.sql",
    "functions/primary_key/key_filter_sql_v1.sql",
    "functions/primary_key/require_equal_lengths_v1.sql",
    "functions/search/rotated_v1.sql",
    "functions/search/candidates_v1.sql",
    "functions/search/store_basis_v1.sql",
    "functions/search/first_stage_values_v1.sql",
    "functions/search/search_template_values_v1.sql",
    "functions/search/dense_sql_v1.sql",
    "functions/search/lexical_sql_v1.sql",
    "functions/search/hybrid_sql_v1.sql",
    "functions/search/passages_sql_v1.sql",
    "functions/search/search_sql_v1.sql",
    "functions/search/require_search_arguments_v1.sql",
    "functions/search/drop_search_function_v1.sql",
    "functions/search/search_function_template_values_v1.sql",
    "functions/search/create_search_function_v1.sql",
    "functions/primary_key/refresh_key_1_drop_foreign_keys_v1.sql",
    "functions/primary_key/refresh_key_3_add_foreign_keys_v1.sql",
    "functions/primary_key/refresh_key_4_validate_v1.sql",
    "functions/primary_key/refresh_key_2_alter_types_v1.sql",
    "functions/source/require_same_schema_and_no_children_v1.sql",
    "functions/registry/unregister_index_v1.sql",
    "functions/registry/register_index_v1.sql",
    "functions/registry/set_recall_objective_v1.sql",
    "functions/privileges/public_privileges_v1.sql",
    "functions/privileges/schema_objects_v1.sql",
    "functions/privileges/schema_privilege_statements_v1.sql",
    "functions/privileges/apply_schema_privileges_v1.sql",
)

_VECTOR_SCHEMA = """
    SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
    WHERE extname = 'vector'
"""
_ROUTINES = """
    SELECT string_agg(CAST(CAST(oid AS regprocedure) AS text), ', ')
    FROM pg_proc
    WHERE pronamespace = CAST('semantic' AS regnamespace) AND proname = ANY (:names)
"""


def upgrade() -> None:
    connection = op.get_bind()
    # The files say vector_schema for the schema of pgvector, which differs between databases.
    place = connection.scalar(sa.text(_VECTOR_SCHEMA))
    for file in FILES:
        statements = (FOLDER / file).read_text("utf-8").replace("vector_schema.", f"{place}.")
        connection.exec_driver_sql(statements, execution_options={"no_parameters": True})
    op.execute("SELECT semantic.adopt_cluster_v1()")
    op.execute("SELECT semantic.apply_schema_privileges_v1()")


def downgrade() -> None:
    connection = op.get_bind()
    op.execute(f"DROP VIEW {', '.join(_names('views'))}")
    names = [name.removeprefix("semantic.") for name in _names("functions")]
    op.execute(f"DROP ROUTINE {connection.scalar(sa.text(_ROUTINES), {'names': names})}")
    op.execute(f"DROP TABLE {', '.join(_names('tables'))}")


def _names(folder: str) -> list[str]:
    return [f"semantic.{Path(file).stem}" for file in FILES if file.startswith(folder)]
