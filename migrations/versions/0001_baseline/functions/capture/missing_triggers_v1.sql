-- Triggers that are missing or don't fire as they should. A statement trigger fires only for the table that the
-- statement names, so every partition needs its own. The row trigger `replica` fires where statement triggers don't:
-- for rows that logical replication applies, and with session_replication_role = replica. For TRUNCATE, the same
-- trigger fires in both cases. ENABLE TRIGGER ALL changes these two: they then fire only with
-- session_replication_role = origin, where the condition of `replica` is never true. If the source is itself a
-- partition or inherits, the row trigger `parent` fires for statements that name the table above it. Rows of
-- statements that name the source are marked by both, which makes one job.
CREATE FUNCTION semantic.missing_triggers_v1(index_source regclass, stem text)
RETURNS TABLE (relation regclass, event text, transition text, state text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT part.relid, event.name, event.transition,
           CASE WHEN tgname IS NULL THEN 'missing' WHEN tgenabled = 'D' THEN 'disabled' ELSE 'altered' END
    FROM semantic.partition_tree_v1(index_source) AS part
    CROSS JOIN (
        VALUES ('insert', 'REFERENCING NEW TABLE AS new_rows', 'OA'),
               ('update', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows', 'OA'),
               ('delete', 'REFERENCING OLD TABLE AS old_rows', 'OA'),
               ('truncate', '', 'A'),
               ('replica', '', 'RA'),
               ('parent', '', 'OA')
    ) AS event (name, transition, firing)
    LEFT JOIN pg_trigger ON tgrelid = part.relid AND tgname = stem || '_' || event.name
    WHERE (tgname IS NULL OR position(CAST(tgenabled AS text) IN event.firing) = 0)
      AND (event.name <> 'parent' OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = index_source))
    ORDER BY part.relid <> index_source
$body$;
