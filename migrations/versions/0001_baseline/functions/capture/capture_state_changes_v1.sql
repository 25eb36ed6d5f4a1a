-- How the tables of an index differ from what was recorded, in words; NULL if they don't. A missing column is not a
-- difference: capture reports it, and another column that takes its name later is a difference. With `also_harmless`,
-- this includes changes that must be recorded but need no comparison of rows: a new partition that was never written
-- to, and one that is gone, because the foreign keys keep a partition from going while its rows have chunks.
CREATE FUNCTION semantic.capture_state_changes_v1(known_index integer, also_harmless boolean) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT string_agg(compared.reason, ', ') FROM (
        SELECT different.reason
        FROM semantic.capture_state_v1(known_index) AS found
        FULL JOIN (SELECT * FROM semantic.captured WHERE index_id = known_index) AS known USING (relation)
        CROSS JOIN (
            SELECT NOT EXISTS (SELECT FROM semantic.unsound_foreign_keys_v1(known_index) WHERE name IS NULL) AS keyed
        ) AS foreign_keys
        CROSS JOIN LATERAL (SELECT CASE
            WHEN found.relation IS NULL THEN CASE
                WHEN NOT also_harmless AND keyed THEN NULL
                WHEN EXISTS (SELECT FROM pg_class WHERE oid = known.relation)
                THEN format('%s is no longer part of the table', known.relation) ELSE 'a partition was dropped' END
            WHEN known.relation IS NULL AND (also_harmless OR NOT semantic.was_never_written_v1(found.relation))
            THEN format('%s was not captured before', found.relation)
            WHEN found.triggers <> known.triggers THEN format('the triggers of %s were changed', found.relation)
            WHEN EXISTS (
                SELECT FROM jsonb_each(known.columns) AS before WHERE before.value <> found.columns -> before.key
            ) THEN format('columns of %s were changed', found.relation)
            WHEN found.file <> known.file THEN format('%s was rewritten', found.relation)
        END) AS different (reason)
        WHERE different.reason IS NOT NULL
        ORDER BY relation
        LIMIT 3
    ) AS compared
$body$;
